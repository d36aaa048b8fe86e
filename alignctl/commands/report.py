"""Turn the tables of runs and sweeps into a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignctl.commands.run_kinds import source_of
from alignctl.config.base import expanded
from alignctl.errors import ConfigError
from alignctl.runs import RunDirectory
from alignctl.runs.directory import RUNS, find, obstacle


@dataclass(frozen=True)
class ReportPlan:
    """What will be reported, and where."""

    sources: tuple[Path, ...]
    folder: Path

    def summary(self) -> dict[str, Any]:
        """The plan for --dry-run."""
        return {
            "runs": [str(path) for path in self.sources],
            "report": str(self.folder / "report.md"),
            "figures": str(self.folder / "figures"),
        }


@dataclass(frozen=True)
class ReportResult:
    """A report on disk, and what it says."""

    report: str
    figures: tuple[str, ...]
    answers: tuple[str, ...]


def plan(runs: Sequence[str], *, output: Path | None) -> ReportPlan:
    """The runs asked for, or the newest run or sweep; ConfigError where there is none."""
    sources = tuple(find(run, sweeps=True) for run in runs) or (find(None, sweeps=True),)
    default = RunDirectory(sources[0]).report if len(sources) == 1 else RUNS / "report"
    folder = expanded(output) if output else default
    if blocked := obstacle(folder):
        raise ConfigError(f"--output: {blocked.path} is {blocked.kind}")
    return ReportPlan(sources, folder)


def run(plan: ReportPlan) -> ReportResult:
    """Read the tables, draw the figures, write the report."""
    from alignctl.reporting.markdown import write_report
    from alignctl.reporting.table_sources import read_source

    tables = [read_source(path, source_of) for path in plan.sources]
    written = write_report(tables, plan.folder)
    return ReportResult(
        report=str(written.report),
        figures=tuple(str(path) for path in written.figures),
        answers=written.answers,
    )
