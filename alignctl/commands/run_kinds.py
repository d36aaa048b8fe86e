"""The kinds of runs there are: where their models come from, and how they are verified.

A further kind of run is one line of `_KINDS`. The original's checkpoints are known nowhere else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignctl.config import StudyConfig
from alignctl.models.model_source import ModelSource
from alignctl.models.own_run import OwnRun
from alignctl.original.adopted_run import open_adopted
from alignctl.original.adoption import plan_adoption
from alignctl.original.snapshots import snapshots_in
from alignctl.runs import RunDirectory
from alignctl.verify.check import Verification


@dataclass(frozen=True)
class _Kind:
    """One kind of run directory."""

    open: Callable[[RunDirectory], Any]
    """The run's source of models; None where it is of another kind."""
    verification: Callable[[Any, StudyConfig | None, int | None], Verification]
    """The checks of such a source, given its study where its data have moved, and an epoch."""


def _verify_own(source: OwnRun, study: StudyConfig | None, epoch: int | None) -> Verification:
    from alignctl.verify.trained_run import TrainedRun  # imports torch

    return TrainedRun(source.run, study, epoch)


def _verify_adopted(source: Any, study: StudyConfig | None, epoch: int | None) -> Verification:
    from alignctl.original.snapshot_checks import AdoptedRunVerification

    return AdoptedRunVerification(source)


_KINDS = (_Kind(open_adopted, _verify_adopted), _Kind(OwnRun, _verify_own))


def source_of(run: RunDirectory) -> ModelSource:
    """Where a run's models come from, whether or not it was started yet.

    CheckpointError where the run points to other files and that cannot be read.
    """
    source, _ = _opened(run)
    return source


def verification_of(
    run: RunDirectory, *, study: StudyConfig | None, epoch: int | None
) -> Verification:
    """The checks of a run, for a worker.

    study: its config where its data lie elsewhere. epoch: whose batches are to be drawn again.
    """
    source, kind = _opened(run)
    return kind.verification(source, study, epoch)


def run_of_checkpoints(
    checkpoints: Path, run: RunDirectory, study: StudyConfig | None
) -> ModelSource:
    """What a run that points to another program's checkpoints is to become.

    ConfigError where the folder holds no such checkpoints, or the run or the study do not fit.
    """
    return plan_adoption(checkpoints, run, study)


def checkpoints_in(folder: Path) -> ModelSource:
    """Another program's checkpoints under a folder; ConfigError where there are none."""
    return snapshots_in(folder)


def _opened(run: RunDirectory) -> tuple[ModelSource, _Kind]:
    found = ((kind.open(run), kind) for kind in _KINDS)
    return next((source, kind) for source, kind in found if source is not None)
