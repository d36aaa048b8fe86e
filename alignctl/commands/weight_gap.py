"""Compare the encoder weights of a run's models at every saved epoch."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from alignctl.commands.eval_alignment import others
from alignctl.config.validation import unknown
from alignctl.console import CountView
from alignctl.errors import ConfigError
from alignctl.runs import RunDirectory
from alignctl.runs.directory import find
from alignctl.runs.lock import run_lock


@dataclass(frozen=True)
class WeightGapPlan:
    """What will be compared."""

    run: RunDirectory
    reference: str
    objectives: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """The plan for --dry-run."""
        return {
            "run": str(self.run.path),
            "reference": self.reference,
            "objectives": list(self.objectives),
            "processes": 1,
            "tables": str(self.run.weight_gap),
        }


@dataclass(frozen=True)
class WeightGapResult:
    """The gaps over all layers, by objective and epoch."""

    run: str
    reference: str
    rows: list[dict[Hashable, Any]]
    """epoch, objective, mean, total and angle_degrees."""


def plan(run: str | None, *, reference: str, compare: Sequence[str]) -> WeightGapPlan:
    """The comparison asked for; ConfigError where the run cannot serve it."""
    directory = RunDirectory(find(run))
    possible = others(directory.config.objective_names, reference, where=str(directory.path))
    for name in compare:
        if name not in possible:
            raise ConfigError(f"--compare: {unknown('comparable here', name, possible)}")
    return WeightGapPlan(directory, reference, tuple(dict.fromkeys(compare)) or possible)


def run(plan: WeightGapPlan, *, json_output: bool = False) -> WeightGapResult:
    """Measure every pair at every saved epoch, write the tables, return the totals."""
    from alignctl.analysis.weight_gap import WeightGapJob, measure, totals
    from alignctl.engine.launch import launch
    from alignctl.engine.placement import plan_processes

    job = WeightGapJob(plan.run.path.absolute(), plan.reference, plan.objectives)
    with run_lock(plan.run.path, "weight-gap"), CountView(json_output=json_output) as view:
        (rows,) = launch(
            measure,
            job,
            plan=plan_processes(1, limit=1, limit_name="process"),
            events_file=plan.run.events_file,
            listener=view,
        )
    return WeightGapResult(
        run=str(plan.run.path),
        reference=plan.reference,
        rows=totals(rows).to_dict("records"),
    )
