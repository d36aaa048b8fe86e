"""Read the proof of shared randomness back from runs, and make it again."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignctl.commands.run_kinds import source_of, verification_of
from alignctl.config import StudyConfig
from alignctl.config.load import moved
from alignctl.engine.events import Listener, ignore
from alignctl.engine.launchers import refuse_other_launchers
from alignctl.errors import ConfigError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.directory import find, runs_and_changes
from alignctl.verify.check import Check
from alignctl.verify.run_comparison import Comparison, RunRecord, compare_runs


@dataclass(frozen=True)
class VerifyPlan:
    """Which runs will be verified; the others are compared with the first."""

    runs: tuple[RunDirectory, ...]
    epoch: int | None
    studies: tuple[StudyConfig, ...] = ()
    """Of each run, with its data where they lie now; empty where that is as their configs say."""

    def summary(self) -> dict[str, Any]:
        """The plan for --dry-run."""
        return {
            "runs": [str(run.path) for run in self.runs],
            "epoch": self.epoch or "the first that is finished",
            "processes": 1,
            "writes": "nothing",
        }


@dataclass(frozen=True)
class RunVerdict:
    """One run against its own manifest."""

    run: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class PairVerdict:
    """One run against the first."""

    run: str
    reference: str
    checks: tuple[Check, ...]
    differs_in: tuple[str, ...]
    conclusion: str


@dataclass(frozen=True)
class VerifyResult:
    """Every check; `ok` where all of them are."""

    ok: bool
    runs: tuple[RunVerdict, ...]
    pairs: tuple[PairVerdict, ...]


def plan(words: Sequence[str], *, epoch: int | None) -> VerifyPlan:
    """The runs asked for, or the newest; ConfigError where one has not finished that epoch.

    words: runs, and `key=value` for where their data lie now.
    """
    runs, changes = runs_and_changes(words)
    found = tuple(RunDirectory(find(run)) for run in runs) or (RunDirectory(find(None)),)
    resolved = [run.path.resolve() for run in found]
    for run, path in zip(found, resolved, strict=True):
        if resolved.count(path) > 1:
            raise ConfigError(f"{run.path}: is named twice")
        finished = Manifest.read(run.manifest_file).batches
        if epoch is not None and epoch not in finished:
            allowed = f"{min(finished)} to {max(finished)}" if finished else "none"
            raise ConfigError(f"--epoch: {epoch} is not a finished epoch of {run.path} ({allowed})")
    studies = [moved(source_of(run).config, changes, str(run.path)) for run in found if changes]
    return VerifyPlan(found, epoch, tuple(studies))


def run(plan: VerifyPlan, listener: Listener = ignore) -> VerifyResult:
    """Verify each run, then compare the others with the first; writes nothing."""
    refuse_other_launchers()
    names = [str(run.path) for run in plan.runs]
    records = [] if len(plan.runs) == 1 else [_record(run) for run in plan.runs]
    found = _checks(plan, listener)
    runs = tuple(RunVerdict(name, checks) for name, checks in zip(names, found, strict=True))
    pairs = tuple(
        _pair(name, names[0], compare_runs(records[0], record))
        for name, record in zip(names[1:], records[1:], strict=True)
    )
    checks = [check for run in runs for check in run.checks]
    checks += [check for pair in pairs for check in pair.checks]
    return VerifyResult(all(check.result == "ok" for check in checks), runs, pairs)


def _record(run: RunDirectory) -> RunRecord:
    source = source_of(run)
    return RunRecord(source.config, Manifest.read(run.manifest_file), source.records_training)


def _pair(run: str, reference: str, found: Comparison) -> PairVerdict:
    return PairVerdict(run, reference, found.checks, found.differs_in, found.conclusion)


def _checks(plan: VerifyPlan, listener: Listener) -> list[tuple[Check, ...]]:
    from alignctl.engine.launch import launch
    from alignctl.engine.placement import plan_processes
    from alignctl.verify.verification import VerificationJob, verify

    job = VerificationJob(
        tuple(
            verification_of(RunDirectory(run.path.absolute()), study=study, epoch=plan.epoch)
            for run, study in zip(plan.runs, plan.studies or [None] * len(plan.runs), strict=True)
        )
    )
    with tempfile.TemporaryDirectory(prefix="alignctl-") as folder:
        (checks,) = launch(
            verify,
            job,
            plan=plan_processes(1, limit=1, limit_name="process"),
            events_file=Path(folder) / "events.jsonl",
            listener=listener,
        )
    return checks
