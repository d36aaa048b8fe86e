"""Compare the representations of a run's models at every saved epoch."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from alignctl.config.validation import unknown
from alignctl.console import CountView
from alignctl.engine.placement import available_cores, parse_nproc
from alignctl.errors import ConfigError
from alignctl.runs import RunDirectory
from alignctl.runs.directory import find

SPLITS = ("train", "test")
REPRESENTATIONS = ("h", "g")


@dataclass(frozen=True)
class EvalPlan:
    """What will be compared."""

    run: RunDirectory
    reference: str
    objectives: tuple[str, ...]
    splits: tuple[str, ...]
    representation: str
    num_processes: int | None

    def summary(self) -> dict[str, Any]:
        """The plan for --dry-run."""
        return {
            "run": str(self.run.path),
            "reference": self.reference,
            "objectives": list(self.objectives),
            "splits": list(self.splits),
            "representation": self.representation,
            "processes": self.num_processes or "auto (one per GPU or core)",
            "tables": str(self.run.alignment),
        }


@dataclass(frozen=True)
class EvalResult:
    """Similarities to the reference, from the run's table."""

    run: str
    reference: str
    representation: str
    evaluated: int
    """How many (epoch, split) were new."""
    rows: list[dict[Hashable, Any]]
    """epoch, split, objective, metric and value, by split and epoch."""


def plan(
    run: str | None,
    *,
    reference: str,
    splits: tuple[str, ...],
    representation: str,
    nproc: str,
) -> EvalPlan:
    """The comparison asked for; ConfigError where the run or an option cannot serve it."""
    directory = RunDirectory(find(run))
    for split in splits:
        if split not in SPLITS:
            raise ConfigError(f"--split: {unknown('a split', split, SPLITS)}")
    if representation not in REPRESENTATIONS:
        allowed = unknown("a representation", representation, REPRESENTATIONS)
        raise ConfigError(f"--representation: {allowed}")
    return EvalPlan(
        run=directory,
        reference=reference,
        objectives=others(directory.config.objective_names, reference, where=str(directory.path)),
        splits=tuple(dict.fromkeys(splits)) or SPLITS,
        representation=representation,
        num_processes=parse_nproc(nproc),
    )


def others(names: tuple[str, ...], reference: str, *, where: str) -> tuple[str, ...]:
    """The objectives other than the reference; ConfigError where there is none to compare."""
    if reference not in names:
        raise ConfigError(f"--reference: {unknown('an objective of this run', reference, names)}")
    found = tuple(name for name in names if name != reference)
    if not found:
        raise ConfigError(f"{where}: has one objective, '{reference}'; comparing takes two")
    return found


def run(plan: EvalPlan, *, json_output: bool = False) -> EvalResult:
    """Evaluate what the tables lack, and return what they hold."""
    from alignctl.analysis.alignment import AlignmentJob, evaluate, pending, read_table, select
    from alignctl.engine.launch import launch
    from alignctl.engine.placement import plan_processes

    job = AlignmentJob(
        run=plan.run.path.absolute(),
        reference=plan.reference,
        objectives=plan.objectives,
        splits=plan.splits,  # type: ignore[arg-type]
        representation=plan.representation,  # type: ignore[arg-type]
    )
    todo = pending(plan.run, job, read_table(plan.run))
    if todo:
        processes = plan_processes(plan.num_processes, limit=available_cores(), limit_name="cores")
        with CountView(json_output=json_output) as view:
            launch(evaluate, job, plan=processes, events_file=plan.run.events_file, listener=view)
    table = select(
        read_table(plan.run), reference=plan.reference, representation=plan.representation
    )
    chosen = table[table["split"].isin(plan.splits) & table["objective"].isin(plan.objectives)]
    return EvalResult(
        run=str(plan.run.path),
        reference=plan.reference,
        representation=plan.representation,
        evaluated=len(todo),
        rows=chosen[["epoch", "split", "objective", "metric", "value"]].to_dict("records"),
    )


def table_of(
    result: EvalResult, split: str, objectives: tuple[str, ...]
) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows to print: one line per epoch, CKA then RSA of every objective."""
    keys = [(metric, name) for metric in ("cka", "rsa") for name in objectives]
    lines: dict[int, dict[tuple[str, str], float]] = {}
    for row in result.rows:
        if row["split"] == split:
            lines.setdefault(row["epoch"], {})[row["metric"], row["objective"]] = row["value"]
    columns = ["epoch", *(f"{metric.upper()} {name}" for metric, name in keys)]
    return columns, [[epoch, *map(lines[epoch].get, keys)] for epoch in sorted(lines)]
