"""Train every objective of a study in lock step."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignctl.commands.found_data import found_data
from alignctl.commands.run_kinds import source_of
from alignctl.config import StudyConfig
from alignctl.config.base import expanded
from alignctl.config.load import first_difference, load_study, moved
from alignctl.config.work_division import grid, usable_processes
from alignctl.engine.events import Listener, ignore
from alignctl.engine.launchers import refuse_other_launchers
from alignctl.engine.placement import parse_nproc
from alignctl.errors import AlignctlError, ConfigError, PreemptedError
from alignctl.runs import Manifest, RunDirectory, Status
from alignctl.runs.directory import (
    newest,
    newest_of,
    next_free,
    obstacle,
    refuse_undecodable,
)
from alignctl.runs.lock import run_lock


@dataclass(frozen=True)
class PretrainPlan:
    """What will be trained, where; made without torch, and without writing anything."""

    study: StudyConfig
    run: Path
    num_processes: int | None
    resume: bool
    finished: bool

    def summary(self) -> dict[str, Any]:
        """The plan for --dry-run; ConfigError where the data cannot be trained on."""
        return {
            "run": str(self.run),
            "processes": self.num_processes or "auto (one per GPU or core, as many as can be used)",
            **self._shape(),
            **({} if self.finished else found_data(self.study)),
            "saved_epochs": list(self.study.saved_epochs),
            "study": self.study.model_dump(mode="json"),
        }

    def _shape(self) -> dict[str, int]:
        """How the processes divide the work, where their number is known."""
        if self.num_processes is None:
            return {}
        shape = grid(self.study, self.num_processes)
        return {"groups_of_objectives": shape.num_groups, "shares_of_a_batch": shape.num_shares}


@dataclass(frozen=True)
class PretrainResult:
    """A finished run."""

    run: str
    objectives: tuple[str, ...]
    epochs: int
    losses: dict[str, float]
    """Mean loss of the last epoch, by objective."""
    training_s: float
    initial_weights: str
    """The digest that all objectives share."""


def plan(
    config: str | None,
    overrides: Sequence[str],
    *,
    run_dir: Path | None,
    nproc: str,
    resume: bool,
    notify: Callable[[str], None] | None = None,
) -> PretrainPlan:
    """The study and its run directory; ConfigError where the two do not fit.

    notify: told what became of the keys of a config of the original code.
    """
    run_dir = run_dir and expanded(run_dir)
    if resume:
        return _plan_resumption(config, overrides, run_dir=run_dir, nproc=nproc, notify=notify)
    study = load_study(config, overrides, notify=notify)
    return plan_study(study, run=run_dir or next_free(study.name), nproc=nproc, resume=False)


def _plan_resumption(
    config: str | None,
    overrides: Sequence[str],
    *,
    run_dir: Path | None,
    nproc: str,
    notify: Callable[[str], None] | None,
) -> PretrainPlan:
    """Without a config of its own, a resumed run keeps the one it was started with.

    Overrides alone are changes to it; where no run is there yet, to the default study.
    """
    if config is not None or (overrides and not _is_there(run_dir)):
        study = load_study(config, overrides, notify=notify)
        return plan_study(study, run=run_dir or newest_of(study.name), nproc=nproc, resume=True)
    directory = RunDirectory(run_dir or newest())
    if not directory.exists:
        raise ConfigError(f"{run_dir}: holds no run to resume")
    _refuse_other_program(directory)
    study = moved(directory.config, overrides, str(directory.path))
    return plan_study(study, run=directory.path, nproc=nproc, resume=True)


def _is_there(run_dir: Path | None) -> bool:
    """Whether the folder holds a run; without one, whether ./runs does."""
    if run_dir is not None:
        return RunDirectory(run_dir).exists
    try:
        newest()
    except ConfigError:
        return False
    return True


def plan_study(study: StudyConfig, *, run: Path, nproc: str, resume: bool) -> PretrainPlan:
    """A plan for a study at hand; ConfigError where the folder holds something else."""
    directory = RunDirectory(run)
    finished = False
    refuse_undecodable(run)
    _refuse_other_program(directory)
    if directory.exists:
        difference = first_difference(study, directory.config)
        if difference:
            raise ConfigError(
                f"{run}: holds a run with another config ({difference}); "
                "choose another --run-dir, or --resume with the run's own config"
            )
        if not resume:
            raise ConfigError(
                f"{run}: holds a run already; --resume it or choose another --run-dir"
            )
        finished = Manifest.read(directory.manifest_file).status == "finished"
    elif (blocked := obstacle(run)) and blocked.path == run:  # the lock finds those above it
        raise ConfigError(f"{blocked.path}: is {blocked.kind}; choose another --run-dir")
    elif not directory.is_free:
        raise ConfigError(f"{run}: is not empty and holds no run; choose another --run-dir")
    num_processes = parse_nproc(nproc)
    if num_processes is not None:
        grid(study, num_processes)
    return PretrainPlan(study, run, num_processes, resume, finished)


def _refuse_other_program(run: RunDirectory) -> None:
    if not source_of(run).records_training:
        raise ConfigError(
            f"{run.path}: holds results of another program's checkpoints; choose another --run-dir"
        )


def run(
    plan: PretrainPlan, listener: Listener = ignore, *, timeout_s: float = 1800.0
) -> PretrainResult:
    """Train what the plan says, or go on where an earlier start left off.

    timeout_s: without progress for so long, a worker counts as hung.
    Raises TrainingError where numbers are not finite, in a run that was finished before as well,
    and PreemptedError where a signal asked to stop, once all is saved.
    """
    refuse_other_launchers()
    if not plan.finished:
        with run_lock(plan.run, "pretrain"):
            # what was planned may have been begun, or ended, by another process since
            nproc = str(plan.num_processes or "auto")
            plan = plan_study(plan.study, run=plan.run, nproc=nproc, resume=plan.resume)
            if not plan.finished:
                _train(plan, listener, timeout_s=timeout_s)
    else:
        from alignctl.training.finite import refuse_finished

        refuse_finished(RunDirectory(plan.run))
    return _result(RunDirectory(plan.run))


def _train(plan: PretrainPlan, listener: Listener, *, timeout_s: float) -> None:
    from alignctl.engine.launch import launch
    from alignctl.engine.placement import num_devices, plan_processes
    from alignctl.training.trainer import TrainingJob, train

    study, directory = plan.study, RunDirectory(plan.run)
    num_processes = plan.num_processes or _as_before(directory, study, num_devices())
    processes = plan_processes(num_processes, limit=num_processes, limit_name="usable")
    try:
        manifests = launch(
            train,
            TrainingJob(study, plan.run.absolute()),
            plan=processes,
            events_file=directory.events_file,
            listener=listener,
            stoppable=True,
            timeout_s=timeout_s,
        )
    except (KeyboardInterrupt, SystemExit, PreemptedError):  # SystemExit: a closed terminal
        _leave(directory, "interrupted", None)
        raise
    except AlignctlError as error:
        _leave(directory, "failed", str(error))
        raise
    manifest = manifests[0]
    if manifest is not None and manifest.status == "interrupted":
        raise PreemptedError(
            f"{plan.run}: stopped as asked and saved, with {manifest.finished_epochs} of "
            f"{study.training.epochs} epochs done; "
            f"go on with `alignctl pretrain --resume --run-dir {plan.run}`"
        )


def _as_before(directory: RunDirectory, study: StudyConfig, most: int) -> int:
    """As many processes as the run has had, where there are so many devices; else as can be."""
    if directory.exists:
        before = Manifest.read(directory.manifest_file).num_processes
        if usable_processes(study, min(before, most)) == before:
            return before
    return usable_processes(study, most)


def _leave(directory: RunDirectory, status: Status, error: str | None) -> None:
    """Say in the manifest how an unfinished run ended, if that can still be written."""
    with suppress(AlignctlError):
        if not directory.exists:
            return
        manifest = Manifest.read(directory.manifest_file)
        if manifest.status == "running":
            manifest.updated(status=status, error=error).write(directory.manifest_file)


def _result(directory: RunDirectory) -> PretrainResult:
    from alignctl.runs.table_files import read_parquet

    manifest, study = Manifest.read(directory.manifest_file), directory.config
    table = read_parquet(directory.training_table)
    last = table[table["epoch"] == study.training.epochs]
    means = last.groupby("objective")["loss"].mean()
    return PretrainResult(
        run=str(directory.path),
        objectives=study.objective_names,
        epochs=study.training.epochs,
        losses={name: float(means[name]) for name in study.objective_names},
        training_s=manifest.training_s,
        initial_weights=next(iter(manifest.initial_weights.values())),
    )
