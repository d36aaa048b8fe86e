"""Train every objective of a study in lock step."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignctl.config import StudyConfig
from alignctl.config.load import first_difference, load_study
from alignctl.console import TrainingView
from alignctl.engine.placement import parse_nproc
from alignctl.errors import AlignctlError, ConfigError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.directory import newest, newest_of, next_free


@dataclass(frozen=True)
class PretrainPlan:
    """What will be trained, where; made without torch, and without writing anything."""

    study: StudyConfig
    run: Path
    num_processes: int | None
    finished: bool

    def summary(self) -> dict[str, Any]:
        """The plan for --dry-run."""
        processes = self.num_processes or "auto (one per GPU or core, at most one per objective)"
        return {
            "run": str(self.run),
            "processes": processes,
            "saved_epochs": list(self.study.saved_epochs),
            "study": self.study.model_dump(mode="json"),
        }


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
) -> PretrainPlan:
    """The study and its run directory; ConfigError where the two do not fit."""
    if resume:
        return _plan_resumption(config, overrides, run_dir=run_dir, nproc=nproc)
    study = load_study(config, overrides)
    return plan_study(study, run=run_dir or next_free(study.name), nproc=nproc, resume=False)


def _plan_resumption(
    config: str | None, overrides: Sequence[str], *, run_dir: Path | None, nproc: str
) -> PretrainPlan:
    """Without a config of its own, a resumed run keeps the one it was started with."""
    given = config is not None or bool(overrides)
    if run_dir is None:
        run_dir = newest_of(load_study(config, overrides).name) if given else newest()
    if not given and not RunDirectory(run_dir).exists:
        raise ConfigError(f"{run_dir}: holds no run to resume")
    study = load_study(config, overrides) if given else RunDirectory(run_dir).config
    return plan_study(study, run=run_dir, nproc=nproc, resume=True)


def plan_study(study: StudyConfig, *, run: Path, nproc: str, resume: bool) -> PretrainPlan:
    """A plan for a study at hand; ConfigError where the folder holds something else."""
    directory = RunDirectory(run)
    finished = False
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
    elif run.exists() and not run.is_dir():
        raise ConfigError(f"{run}: is a file; choose another --run-dir")
    elif not directory.is_free:
        raise ConfigError(f"{run}: is not empty and holds no run; choose another --run-dir")
    return PretrainPlan(study, run, parse_nproc(nproc), finished)


def run(plan: PretrainPlan, *, json_output: bool = False) -> PretrainResult:
    """Train what the plan says, or go on where an earlier start left off."""
    if not plan.finished:
        _train(plan, json_output=json_output)
    return _result(RunDirectory(plan.run))


def _train(plan: PretrainPlan, *, json_output: bool) -> None:
    from alignctl.engine.launch import launch
    from alignctl.engine.placement import plan_processes
    from alignctl.training.worker import TrainingJob, train

    study, directory = plan.study, RunDirectory(plan.run)
    processes = plan_processes(
        plan.num_processes, limit=len(study.objectives), limit_name="objectives to place"
    )
    with TrainingView(batch_size=study.training.batch_size, json_output=json_output) as view:
        try:
            launch(
                train,
                TrainingJob(study, plan.run.absolute()),
                plan=processes,
                events_file=directory.events_file,
                listener=view,
            )
        except (KeyboardInterrupt, SystemExit):  # SystemExit: a SIGTERM, as from SLURM
            _leave(directory, "interrupted", None)
            raise
        except AlignctlError as error:
            _leave(directory, "failed", str(error))
            raise


def _leave(directory: RunDirectory, status: str, error: str | None) -> None:
    """Say in the manifest how an unfinished run ended."""
    if not directory.exists:
        return
    manifest = Manifest.read(directory.manifest_file)
    if manifest.status == "running":
        manifest.updated(status=status, error=error).write(directory.manifest_file)


def _result(directory: RunDirectory) -> PretrainResult:
    from alignctl.runs.tables import read_parquet

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
