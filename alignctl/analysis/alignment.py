"""How alike the objectives' representations are at every saved epoch, over all images."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from alignctl.analysis.feature_files import CheckedFeatures
from alignctl.analysis.feature_store import are_kept, stored_features
from alignctl.analysis.features import features
from alignctl.analysis.images import image_passes, passes_of
from alignctl.analysis.metric_names import SAMPLE_COLUMNS, rows_of, with_sample_columns
from alignctl.analysis.same_data import doubts_about
from alignctl.config.datasets import DatasetConfig
from alignctl.config.metrics import ORIGINAL_CKA, ORIGINAL_RSA
from alignctl.datasets import ImageSet, Split, loading_writes, open_images
from alignctl.encoders import Network, check_image_size
from alignctl.engine.context import WorkerContext
from alignctl.errors import AlignctlError, CheckpointError
from alignctl.metrics.comparison import Question, Score, scores
from alignctl.metrics.feature_space import share_in_chunks
from alignctl.models.fitted import load_network
from alignctl.models.model_source import ModelSource
from alignctl.models.own_run import OwnRun
from alignctl.runs import RunDirectory
from alignctl.runs.directory import comparable_epochs
from alignctl.runs.tables import read_parquet, write_csv, write_parquet

_KEY = ["epoch", "split", "representation", "reference", "objective", "metric"]
# The columns of the study's original code, which compares with cl.
_ORIGINAL_COLUMNS = ("NSCL_RSA", "SCL_RSA", "NSCL_CKA", "SCL_CKA", "CE_RSA", "CE_CKA")
_ORIGINAL_METRICS = {ORIGINAL_CKA: "CKA", ORIGINAL_RSA: "RSA"}
_SIDES = ("reference", "objective")

ModelPair = tuple[str, str]


@dataclass(frozen=True)
class AlignmentRow:
    """One similarity of two models on one split."""

    epoch: int
    split: str
    representation: str
    """`h`, `g` or a layer's name."""
    reference: str
    objective: str
    metric: str
    """The metric's name, whatever the number of images."""
    value: float | None
    """None where it could not be computed: see `note`."""
    ci_low: float | None
    ci_high: float | None
    confidence: float | None
    """Of the interval, where there is one."""
    p_value: float | None
    permutations: int
    """Shuffles behind the p-value."""
    num_images: int
    form: str
    """What was computed: products of `features`, a `gram` matrix, `pairs`, ..."""
    interval: str | None
    """Over which other images the interval is, or why there is none; see `Score.interval`."""
    note: str | None
    """Why there is no value, or what it has to be read with."""
    num_sampled_images: int | None
    """How many images were drawn; None where all were compared."""
    num_sampled_pairs: int | None
    """How many pairs of images were drawn; None where no pairs, or all, were compared."""
    sample_seed: int | None
    """Of what was drawn."""


@dataclass(frozen=True)
class AlignmentJob:
    """What to compare in which run."""

    run: Path
    pairs: tuple[ModelPair, ...]
    """(reference, objective)."""
    splits: tuple[Split, ...]
    representation: str
    question: Question
    epochs: tuple[int, ...] | None = None
    """None for all that are saved."""
    keep_features: bool = False
    dataset: DatasetConfig | None = None
    """Where the images lie now; None for where the run's config says."""
    interval: Literal["stratified", "simple"] = "stratified"
    """stratified: over other images with as many of each class; simple: of any class."""
    source: ModelSource | None = None
    """Where the models come from; None for those that the run trained itself."""

    @property
    def models(self) -> ModelSource:
        """Where the models come from."""
        return self.source or OwnRun(RunDirectory(self.run))

    @property
    def names(self) -> tuple[str, ...]:
        """The models that take part, each once."""
        return tuple(dict.fromkeys(name for pair in self.pairs for name in pair))


def evaluate(context: WorkerContext, job: AlignmentJob) -> int:
    """Fill in what the run's alignment tables lack; the number of (epoch, split) evaluated."""
    run = RunDirectory(job.run)
    table = read_table(run)
    # What the first process finds, for files may come while others look.
    todo, pairs_at = context.gather((pending(job, table), pairs_at_epochs(job)))[0]
    context.wait()  # everyone has read the table before the first process replaces it
    images = _images(context, run, job, {split for _, split in todo})
    for done, (epoch, split) in enumerate(todo):
        context.report("evaluate", epoch=epoch, split=split, done=done, total=len(todo))
        here = replace(job, pairs=pairs_at[epoch])
        models = _Models(context, here, epoch)
        seen = job.models.identities((name, epoch) for name in models.files)
        try:
            rows = _evaluate_one(context, here, models, split, images[split])
        except ValueError as error:
            raise AlignctlError(f"epoch {epoch}, {split}, {job.representation}: {error}") from error
        if context.is_first:
            _write(run, job, _merge(read_table(run), rows))
            job.models.remember(seen)
    context.report("evaluate", done=len(todo), total=len(todo))
    return len(todo)


def _images(
    context: WorkerContext, run: RunDirectory, job: AlignmentJob, splits: set[Split]
) -> dict[Split, ImageSet]:
    config = job.models.config
    dataset = job.dataset or config.dataset

    def load() -> dict[Split, ImageSet]:
        return {split: open_images(dataset, split) for split in sorted(splits)}

    images = context.in_turn(load) if loading_writes(dataset) else load()
    for found in images.values():
        check_image_size(config.encoder, *found.image_shape)
    for text in dict.fromkeys(text for found in images.values() for text in found.notices):
        context.report("notice", text=text)
    if context.is_first and job.models.records_training:
        for text in doubts_about(run, images, dataset):
            context.report("warning", text=text)
    return images


class _Models:
    """The networks of one epoch, loaded when they are first needed."""

    def __init__(self, context: WorkerContext, job: AlignmentJob, epoch: int) -> None:
        self.epoch, self._source = epoch, job.models
        self.files = {name: self._source.file(name, epoch) for name in job.names}
        self._context, self._job = context, job

    @cached_property
    def _networks(self) -> list[Network]:
        names, device = self._job.names, self._context.device
        return [load_network(self._source, name, self.epoch, device) for name in names]

    def features(self, passes: Iterable[Tensor]) -> list[Tensor]:
        """What each makes of some images: passes of (n, H, W, 3) uint8 to (n, d) float32."""
        augmentation = self._source.config.augmentation
        found = [
            features(self._networks, images, self._job.representation, augmentation)
            for images in passes
        ]
        return [torch.cat(parts) for parts in zip(*found, strict=True)]


def _evaluate_one(
    context: WorkerContext,
    job: AlignmentJob,
    models: _Models,
    split: str,
    images: ImageSet,
) -> list[AlignmentRow]:
    indices = [(job.names.index(a), job.names.index(b)) for a, b in job.pairs]
    passes = image_passes(images, share_in_chunks(len(images.ids), context), context.device)
    stored = stored_features(
        context,
        _features_folder(job, models.epoch, split),
        models.files,
        num_images=len(images.ids),
        compute=lambda part: models.features(islice(passes, len(passes_of(part)))),
        keep=job.keep_features,
    )
    with closing(passes), stored as files:
        named = zip(files, job.names, strict=True)
        found = scores(
            [CheckedFeatures(file, name) for file, name in named],
            indices,
            job.question,
            names=job.names,
            labels=images.labels if job.interval == "stratified" else None,
            device=context.device,
            processes=context,
        )
    return [
        _row(job, pair, score, epoch=models.epoch, split=split)
        for pair, index in zip(job.pairs, indices, strict=True)
        for score in found[index]
    ]


def _row(
    job: AlignmentJob, pair: ModelPair, score: Score, *, epoch: int, split: str
) -> AlignmentRow:
    return AlignmentRow(
        epoch=epoch,
        split=split,
        representation=job.representation,
        reference=pair[0],
        objective=pair[1],
        confidence=None if score.ci_low is None else job.question.confidence,
        permutations=job.question.permutations,
        **asdict(score),
    )


def pending(job: AlignmentJob, table: pd.DataFrame) -> list[tuple[int, Split]]:
    """The (epoch, split) that have weights but not yet all their rows."""
    there = _answered(select(table, representation=job.representation), job)
    return [
        (epoch, split)
        for epoch, pairs in pairs_at_epochs(job).items()
        if job.epochs is None or epoch in job.epochs
        for split in job.splits
        if (job.keep_features and not are_kept(_features_folder(job, epoch, split)))
        or not all(
            (epoch, split, *pair, metric) in there
            for pair in pairs
            for metric in job.question.metrics
        )
    ]


def pairs_at_epochs(job: AlignmentJob) -> dict[int, tuple[ModelPair, ...]]:
    """The pairs whose models are there, by epoch, ascending; CheckpointError where there are none.

    A source says whether each pair counts by itself, or only epochs that have all models.
    """
    source = job.models
    saved = {name: source.epochs(name) for name in job.names}
    epochs = comparable_epochs(saved, job.pairs, pair_by_pair=source.pair_by_pair)
    found = {
        epoch: tuple(pair for pair in job.pairs if epoch in epochs[pair])
        for epoch in sorted(set().union(*epochs.values()))
    }
    if not found:
        which = "both models of a pair" if source.pair_by_pair else "all objectives"
        raise CheckpointError(f"{source.folder}: no epoch has weights of {which} yet")
    return found


def _features_folder(job: AlignmentJob, epoch: int, split: str) -> Path:
    features = RunDirectory(job.run).features
    return features / f"epoch_{epoch:04d}" / f"{split}_{job.representation}"


def _answered(table: pd.DataFrame, job: AlignmentJob) -> set[tuple[Any, ...]]:
    """What has a row with the interval and at least the shuffles that are asked for."""
    question = job.question
    rows = table[table["permutations"] >= question.permutations]
    if not question.each_by_itself:  # then what cannot be computed is an error
        rows = rows[rows["value"].notna()]
    if question.confidence is not None:
        # What has no interval has none with another confidence either. A table of an older version
        # does not say over what its intervals are.
        over = rows["interval"].isin([job.interval, "batches"])
        same = (rows["confidence"] == question.confidence) & over
        rows = rows[same | rows["confidence"].isna()]
    keys = ["epoch", "split", "reference", "objective"]
    return {
        (*key, metric)
        for metric, answers in rows_of(rows, question.metrics).items()
        for key in answers[keys].itertuples(index=False, name=None)
    }


def read_table(run: RunDirectory) -> pd.DataFrame:
    """All alignment rows of a run; empty, with its columns, before the first evaluation."""
    table = with_sample_columns(read_parquet(run.alignment_table))
    columns = [field.name for field in fields(AlignmentRow)]
    return table.reindex(columns=columns)  # a table of an older version lacks some


def select(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    """The rows in which each of these columns has this value."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def _merge(table: pd.DataFrame, rows: Iterable[AlignmentRow]) -> pd.DataFrame:
    new = pd.DataFrame([asdict(row) for row in rows]).astype(
        dict.fromkeys(("value", "ci_low", "ci_high", "confidence", "p_value"), "float64")
        | dict.fromkeys(SAMPLE_COLUMNS, "Int64")
        | {"note": "object"}
    )
    if table.empty:
        return _sorted(new)
    both = pd.concat([table, _with_known_p_values(new, table)], ignore_index=True)
    return _sorted(both.drop_duplicates(_KEY, keep="last"))


def _with_known_p_values(new: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """A p-value of more shuffles outlives rows with another confidence."""
    columns = ["p_value", "permutations"]
    known = new[_KEY].merge(table[[*_KEY, *columns]], on=_KEY, how="left").set_index(new.index)
    more = known["permutations"] > new["permutations"]
    return new.assign(**{name: known[name].where(more, new[name]) for name in columns}).astype(
        {"permutations": new["permutations"].dtype}
    )


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    order = ["representation", "reference", "split", "epoch"]  # objectives as the study lists them
    return table.sort_values(order, kind="stable", ignore_index=True)


def _write(run: RunDirectory, job: AlignmentJob, table: pd.DataFrame) -> None:
    write_parquet(run.alignment_table, table)
    for split in job.splits:
        for reference in dict.fromkeys(pair[0] for pair in job.pairs):
            _write_csv(run, table, job.representation, split=split, reference=reference)


def _write_csv(
    run: RunDirectory, table: pd.DataFrame, representation: str, *, split: str, reference: str
) -> Path:
    """The CSV of some of the rows, which is not there where there are none of the original's."""
    path = _csv_file(run, representation, split=split, reference=reference)
    chosen = select(table, representation=representation, split=split, reference=reference)
    chosen = chosen[chosen["metric"].isin(_ORIGINAL_METRICS)]
    if len(chosen):
        write_csv(path, wide(chosen, reference))
    else:
        path.unlink(missing_ok=True)
    return path


def drop_stale(run: RunDirectory, source: ModelSource) -> list[Path]:
    """Take out the rows of files that are not those they came from; the CSVs without them."""
    table = read_table(run)
    sides = [list(zip(table[side], table["epoch"], strict=True)) for side in _SIDES]
    unsure = source.unproven({model for side in sides for model in side})
    stale = [any(model in unsure for model in pair) for pair in zip(*sides, strict=True)]
    kept = table[[not each for each in stale]]
    if any(stale):
        write_parquet(run.alignment_table, kept.reset_index(drop=True))
    source.forget(unsure)
    places = table.loc[stale, ["representation", "split", "reference"]].drop_duplicates()
    return [
        _write_csv(run, kept, representation, split=split, reference=reference)
        for representation, split, reference in places.itertuples(index=False, name=None)
    ]


def csv_files(run: RunDirectory, job: AlignmentJob) -> list[Path]:
    """The job's CSV tables that are there, now or from before."""
    references = dict.fromkeys(pair[0] for pair in job.pairs)
    paths = (
        _csv_file(run, job.representation, split=split, reference=reference)
        for split in job.splits
        for reference in references
    )
    return [path for path in paths if path.is_file()]


def _csv_file(run: RunDirectory, representation: str, *, split: str, reference: str) -> Path:
    """train_alignment.csv for h against cl, as in the original; other choices are named."""
    parts = [split, "alignment"]
    if reference != "cl":
        parts.append(f"vs_{reference}")
    if representation != "h":
        parts.append(representation)
    return run.alignment / f"{'_'.join(parts)}.csv"


def wide(rows: pd.DataFrame, reference: str) -> pd.DataFrame:
    """One line per epoch, one column per objective and metric, in the original's order.

    rows: biased linear CKA, and Pearson RSA on cosine distance. Against `cl` the original's six
    columns are always there, empty where a model is not.
    """
    names = rows["objective"].str.upper() + "_" + rows["metric"].map(_ORIGINAL_METRICS)
    table = rows.assign(column=names).pivot_table(index="epoch", columns="column", values="value")
    usual = list(_ORIGINAL_COLUMNS) if reference == "cl" else []
    columns = [*usual, *(name for name in dict.fromkeys(names) if name not in usual)]
    return table.reindex(columns=columns).rename_axis("Epoch").reset_index()
