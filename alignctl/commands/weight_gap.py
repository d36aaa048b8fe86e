"""Compare the encoder weights of a run's models at every saved epoch."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from alignctl.commands.run_kinds import source_of
from alignctl.commands.subject import Subject, absences, copy_tables, of_run, select
from alignctl.engine.events import Listener, ignore, notice
from alignctl.engine.launchers import refuse_other_launchers
from alignctl.runs import RunDirectory
from alignctl.runs.lock import run_lock


@dataclass(frozen=True)
class WeightGapPlan:
    """What will be compared."""

    subject: Subject
    reference: str
    objectives: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    """What is not there, though it might have been expected."""

    @property
    def run(self) -> RunDirectory:
        """The run that has the tables."""
        return self.subject.run

    def summary(self) -> dict[str, Any]:
        """The plan for --dry-run."""
        return {
            **self.subject.summary(),
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


def plan(run: Subject | str | None, *, reference: str, compare: Sequence[str]) -> WeightGapPlan:
    """The comparison asked for; ConfigError where the run cannot serve it."""
    subject = run if isinstance(run, Subject) else of_run(run)
    found = select(subject, reference=reference, compare=compare)
    names = (found.reference, *found.objectives)
    warnings = absences(subject.source, names, missing=found.missing, reference=found.reference)
    return WeightGapPlan(subject, found.reference, found.objectives, warnings)


def run(plan: WeightGapPlan, listener: Listener = ignore) -> WeightGapResult:
    """Measure every pair at every saved epoch, write the tables, return the totals."""
    from alignctl.engine.launch import launch
    from alignctl.engine.placement import plan_processes
    from alignctl.evaluators.weight_gap_table import WeightGapJob, csv_file, measure, totals

    refuse_other_launchers()
    plan.subject.source.prepare("weight-gap")
    path = plan.run.path.absolute()
    job = WeightGapJob(path, plan.reference, plan.objectives, source_of(RunDirectory(path)))
    with run_lock(plan.run.path, "weight-gap"):
        (rows,) = launch(
            measure,
            job,
            plan=plan_processes(1, limit=1, limit_name="process"),
            events_file=plan.run.events_file,
            listener=listener,
        )
    written = dict.fromkeys(row.objective for row in rows)
    files = [csv_file(plan.run, plan.reference, objective) for objective in written]
    copy_tables(files, plan.subject.output)
    if not plan.run.config_file.exists():
        text = (
            f"{plan.run.path}: has no config, which eval-alignment and report need; "
            "the same command with --config FILE adds it"
        )
        listener(notice(text))
    return WeightGapResult(
        run=str(plan.run.path),
        reference=plan.reference,
        rows=totals(rows).to_dict("records"),
    )
