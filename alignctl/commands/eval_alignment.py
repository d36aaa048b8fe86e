"""Compare the representations of a run's models at every saved epoch."""

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignctl.commands.compare import check_confidence
from alignctl.commands.run_kinds import source_of
from alignctl.commands.subject import Subject, absences, changes, copy_tables, of_run, select
from alignctl.config import StudyConfig
from alignctl.config.dataset_configs import DatasetConfig
from alignctl.config.metric_configs import (
    DEBIASED_CKA,
    ORIGINAL_CKA,
    ORIGINAL_RSA,
    USUAL_OF_RUNS,
    AnyMetric,
    CkaConfig,
    parse_metrics,
)
from alignctl.config.validation import unknown
from alignctl.engine.events import Listener, ignore
from alignctl.engine.launchers import refuse_other_launchers
from alignctl.engine.placement import DeviceType, available_cores, parse_device, parse_nproc
from alignctl.errors import ConfigError
from alignctl.runs import RunDirectory
from alignctl.runs.directory import comparable_epochs
from alignctl.runs.lock import run_lock

if TYPE_CHECKING:
    from alignctl.evaluators.alignment import AlignmentJob

SPLITS = ("train", "test")
_SHOWN = ("epoch", "split", "representation", "reference", "objective", "metric", "value",
          "ci_low", "ci_high", "p_value", "num_images", "form", "interval", "note",
          "num_sampled_images", "num_sampled_pairs", "sample_seed")  # fmt: skip
INTERVALS = ("stratified", "simple")


@dataclass(frozen=True)
class EvalOptions:
    """What to compare, as it is asked for on the command line."""

    reference: str = "cl"
    compare: tuple[str, ...] = ()
    """Empty for all others."""
    all_pairs: bool = False
    splits: tuple[str, ...] = ()
    """Empty for those that the data set has."""
    representations: tuple[str, ...] = ("h",)
    """`h`, `g`, names of layers, or patterns of names."""
    metrics: tuple[str, ...] = ()
    """Empty for CKA, biased and debiased, and RSA."""
    debiased: bool | None = None
    """Which CKA, where a metric does not say."""
    confidence: float = 0.95
    interval: str = INTERVALS[0]
    """Over other images with as many of each class, or of any class."""
    permutations: int = 0
    epochs: str | None = None
    """Numbers separated by commas; None for all that are saved."""
    every: int | None = None
    keep_features: bool = False
    nproc: str = "auto"
    device: str = "auto"


@dataclass(frozen=True)
class EvalPlan:
    """What will be compared."""

    subject: Subject
    study: StudyConfig
    pairs: tuple[tuple[str, str], ...]
    """(reference, objective)."""
    splits: tuple[str, ...]
    metrics: tuple[AnyMetric, ...]
    epochs: tuple[int, ...] | None
    options: EvalOptions
    num_processes: int | None
    device: DeviceType | None
    warnings: tuple[str, ...] = ()
    """What is not there, though it might have been expected."""

    @property
    def run(self) -> RunDirectory:
        """The run that has the tables."""
        return self.subject.run

    @property
    def reference(self) -> str | None:
        """The one model that all others are compared with; None where there is no such model."""
        return _common_reference(self.pairs)

    def summary(self) -> dict[str, Any]:
        """The plan for --dry-run."""
        options = self.options
        return {
            **self.subject.summary(),
            "pairs": [" - ".join(pair) for pair in self.pairs],
            "splits": list(self.splits),
            "representation": ", ".join(options.representations),
            "metrics": [metric.identifier for metric in self.metrics],
            "confidence": options.confidence,
            "interval": options.interval,
            "permutations": options.permutations,
            "epochs": "all that are saved" if self.epochs is None else list(self.epochs),
            "features": str(self.run.features) if options.keep_features else "not kept",
            "processes": self.num_processes or "auto (one per GPU or core)",
            "device": self.device or "auto (a GPU where there is one)",
            "tables": str(self.run.alignment),
        }


@dataclass(frozen=True)
class EvalResult:
    """Similarities of the pairs, from the run's table."""

    run: str
    representation: str
    """All of them, separated by commas."""
    confidence: float
    evaluated: int
    """How many (epoch, split, representation) were new."""
    rows: list[dict[Hashable, Any]]
    """By representation, split and epoch; None where a metric has no interval, no p-value was
    asked for, or the metric could not be computed, which its note explains."""


def plan(run: Subject | str | None, options: EvalOptions) -> EvalPlan:
    """The comparison asked for; ConfigError where the run or an option cannot serve it."""
    subject = run if isinstance(run, Subject) else of_run(run)
    for split in options.splits:
        if split not in SPLITS:
            raise ConfigError(f"--split: {unknown('a split', split, SPLITS)}")
    splits, notices = _splits(subject.config.dataset, options.splits)
    check_confidence(options.confidence, options.permutations)
    if options.interval not in INTERVALS:
        raise ConfigError(f"--interval: {unknown('an interval', options.interval, INTERVALS)}")
    pairs, missing = _pairs(subject, options)
    epochs = _epochs(subject, pairs, options)
    names = {name: None for pair in pairs for name in pair}
    lines = absences(
        subject.source, names, missing=missing, reference=_common_reference(pairs), epochs=epochs
    )
    return EvalPlan(
        subject=subject,
        study=subject.config,
        pairs=pairs,
        splits=splits,
        metrics=_metrics(options),
        epochs=epochs,
        options=options,
        num_processes=parse_nproc(options.nproc),
        device=parse_device(options.device),
        warnings=(*notices, *lines, *changes(subject.source)),
    )


def _splits(
    dataset: DatasetConfig, asked: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The splits to evaluate, and a line on the one that is missing where none is asked for."""
    from alignctl.datasets import missing_test_split

    wanted = tuple(dict.fromkeys(asked)) or SPLITS
    missing = missing_test_split(dataset) if "test" in wanted else None
    if missing is None:
        return wanted, ()
    if asked:
        raise ConfigError(f"--split test: {missing}")
    return ("train",), (f"evaluating on train only: {missing}",)


def _pairs(
    subject: Subject, options: EvalOptions
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """The pairs to compare, and the objectives that are missing."""
    if not options.all_pairs:
        found = select(subject, reference=options.reference, compare=options.compare)
        return tuple((found.reference, name) for name in found.objectives), found.missing
    if options.reference != EvalOptions.reference:
        raise ConfigError("--all-pairs and --reference: choose one")
    if options.compare:
        raise ConfigError("--all-pairs and --compare: choose one")
    names = subject.source.comparable
    if len(names) < 2:
        listed = f"one objective, '{names[0]}'" if names else "no objective"
        raise ConfigError(f"{subject.where}: has {listed}; comparing takes two")
    # cl first, so that it is the reference of all its pairs, as tables and reports have it
    ordered = sorted(names, key=lambda name: name != EvalOptions.reference)
    return tuple(itertools.combinations(ordered, 2)), subject.source.missing


def _common_reference(pairs: Sequence[tuple[str, str]]) -> str | None:
    references = {reference for reference, _ in pairs}
    return references.pop() if len(references) == 1 else None


def _metrics(options: EvalOptions) -> tuple[AnyMetric, ...]:
    usual = {
        None: USUAL_OF_RUNS,
        True: (DEBIASED_CKA, ORIGINAL_RSA),
        False: (ORIGINAL_CKA, ORIGINAL_RSA),
    }
    if not options.metrics:
        return parse_metrics(usual[options.debiased])
    found = parse_metrics(options.metrics)
    if options.debiased:
        found = tuple(_made_debiased(metric) for metric in found)
    return tuple(dict.fromkeys(found))


def _made_debiased(metric: AnyMetric) -> AnyMetric:
    if isinstance(metric, CkaConfig) and "hsic" not in metric.model_fields_set:
        return metric.model_copy(update={"hsic": "debiased"})
    return metric


def _epochs(
    subject: Subject, pairs: Sequence[tuple[str, str]], options: EvalOptions
) -> tuple[int, ...] | None:
    if options.epochs is None and options.every is None:
        return None
    source = subject.source
    by_name = {name: source.epochs(name) for pair in pairs for name in pair}
    found = comparable_epochs(by_name, pairs, pair_by_pair=source.pair_by_pair)
    saved = sorted(set().union(*found.values()))
    if options.every is not None:
        if options.epochs is not None:
            raise ConfigError("--every and --epochs: choose one")
        if options.every < 1:
            raise ConfigError(f"--every: {options.every} is less than 1")
        return tuple(epoch for epoch in saved if epoch % options.every == 0 or epoch == saved[-1])
    asked = [text.strip() for text in str(options.epochs).split(",")]
    listed = ", ".join(map(str, saved)) or "none"
    for text in asked:
        if not text.isdecimal() or int(text) not in saved:
            raise ConfigError(f"--epochs: '{text}' is not a saved epoch ({listed})")
    return tuple(sorted({int(text) for text in asked}))


def run(plan: EvalPlan, listener: Listener = ignore) -> EvalResult:
    """Evaluate what the tables lack, and return what they hold."""
    from alignctl.evaluators.alignment import pending
    from alignctl.evaluators.alignment_table import csv_files, drop_stale, read_table
    from alignctl.models.fitted import layers_asked

    refuse_other_launchers()
    layers = layers_asked(plan.study, plan.options.representations)
    plan.subject.source.prepare("eval-alignment")
    job = _job_of(plan, layers)
    if job.models.may_change:
        with run_lock(plan.run.path, "eval-alignment"):
            copy_tables(drop_stale(plan.run, job.models), plan.subject.output)
    todo = pending(job, read_table(plan.run))
    if todo:
        _evaluate(plan, job, listener)
    references = [reference for reference, _ in plan.pairs]
    files = csv_files(plan.run, representations=layers, splits=plan.splits, references=references)
    copy_tables(files, plan.subject.output)
    return EvalResult(
        run=str(plan.run.path),
        representation=", ".join(layers),
        confidence=plan.options.confidence,
        evaluated=len(todo),
        rows=_rows(plan, layers),
    )


def _job_of(plan: EvalPlan, layers: tuple[str, ...]) -> "AlignmentJob":
    """The plan as workers take it."""
    from alignctl.evaluators.alignment import AlignmentJob
    from alignctl.metrics.scoring import Question

    options = plan.options
    return AlignmentJob(
        run=plan.run.path.absolute(),
        pairs=plan.pairs,
        splits=plan.splits,  # type: ignore[arg-type]
        representations=layers,
        question=Question(
            plan.metrics,
            options.confidence,
            options.permutations,
            each_by_itself=not options.metrics,
        ),
        epochs=plan.epochs,
        keep_features=options.keep_features,
        dataset=plan.study.dataset,
        interval=options.interval,  # type: ignore[arg-type]
        source=source_of(RunDirectory(plan.run.path.absolute())),
    )


def _evaluate(plan: EvalPlan, job: "AlignmentJob", listener: Listener) -> None:
    """Fill in the run's tables, in worker processes."""
    from alignctl.engine.launch import launch
    from alignctl.engine.placement import plan_processes
    from alignctl.evaluators.alignment import evaluate
    from alignctl.features.feature_store import drop_passing

    processes = plan_processes(
        plan.num_processes, limit=available_cores(), limit_name="cores", device=plan.device
    )
    events = plan.run.events_file
    with run_lock(plan.run.path, "eval-alignment"):
        try:
            launch(evaluate, job, plan=processes, events_file=events, listener=listener)
        finally:
            drop_passing(plan.run.features, job.owner)


def _rows(plan: EvalPlan, layers: tuple[str, ...]) -> list[dict[Hashable, Any]]:
    """The table's rows that the plan is about, with None for what is not there."""
    from alignctl.evaluators.alignment_table import read_table
    from alignctl.evaluators.metric_names import rows_of

    places = {layer: place for place, layer in enumerate(layers)}
    table = read_table(plan.run)
    table = table[table["representation"].isin(places)]
    table = table.sort_values("representation", key=lambda names: names.map(places), kind="stable")
    indices = [rows.index for rows in rows_of(table, plan.metrics).values()]
    chosen = table[table.index.isin(set().union(*indices)) & table["split"].isin(plan.splits)]
    if plan.epochs is not None:
        chosen = chosen[chosen["epoch"].isin(plan.epochs)]
    found = chosen[list(_SHOWN)].astype(object)
    rows = found.where(found.notna(), None).to_dict("records")
    return [row for row in rows if (row["reference"], row["objective"]) in plan.pairs]
