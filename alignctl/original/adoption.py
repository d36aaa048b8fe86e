"""A run directory that points to the original's snapshots: planned, then made.

The snapshots stay where they are. The folder for tables becomes a run directory that points to
them, an adopted run, and every later command takes it like any other run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from alignctl.config import StudyConfig
from alignctl.config.execution import placed_as
from alignctl.config.load import first_difference
from alignctl.errors import CheckpointError, ConfigError
from alignctl.original.adopted_run import AdoptedRun, open_adopted
from alignctl.original.snapshot_files import find_checkpoints, write_pointer
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.directory import refuse_obstacle
from alignctl.runs.lock import run_lock
from alignctl.runs.manifest import now, package_versions, shortened


def plan_adoption(checkpoints: Path, run: RunDirectory, study: StudyConfig | None) -> AdoptedRun:
    """The run as it is to become; ConfigError where its folder or its config do not fit.

    checkpoints: the folder of snapshots. study: None where tensors alone are to be read.
    """
    planned = AdoptedRun(find_checkpoints(checkpoints), study, run=run)
    before = _adopted_before(planned)
    names = planned.objectives
    if before is not None:
        planned = replace(planned, checkpoints=before.checkpoints)  # one folder has many names
        names += tuple(name for name in before.objectives if name not in names)
        study = _joined(before.run, study)
    if study is not None:
        study = _with_objectives(study, names)
        names = study.objective_names
    # a new RunDirectory, for it remembers what it has read
    found = replace(planned.checkpoints, objectives=names)
    return AdoptedRun(found, study, run=RunDirectory(run.path))


def _adopted_before(planned: AdoptedRun) -> AdoptedRun | None:
    """The run where it points to these snapshots, None where it is still to come.

    ConfigError where the folder holds something else, or is one of those that are only read.
    """
    run = planned.run
    planned.refuse_output(run.path)
    refuse_obstacle(run.path)
    if not run.exists:
        if not run.is_free:
            raise ConfigError(f"--output: {run.path} is not empty and holds no run; choose another")
        return None
    before = open_adopted(run)
    if before is None:
        raise ConfigError(f"--output: {run.path} holds a run of its own; choose another")
    if before.folder.resolve() != planned.folder.resolve():
        raise ConfigError(
            f"--output: {run.path} is about other checkpoints "
            f"({planned.folder} here and {before.folder} there); choose another"
        )
    return before


def _joined(run: RunDirectory, study: StudyConfig | None) -> StudyConfig | None:
    """The config of an adopted run, given another or none; ConfigError where they do not fit.

    It can be replaced until something was computed with it: weight gaps are not.
    """
    if not run.config_file.exists():
        return study
    has_results = run.alignment_table.exists() or run.features.exists()
    if study is not None and has_results:
        _refuse_other_config(run, study, run.config)
    if study is None:
        return run.config
    return placed_as(run.config, study) if has_results else study


def _refuse_other_config(run: RunDirectory, study: StudyConfig, known: StudyConfig) -> None:
    both = set(study.objective_names) & set(known.objective_names)
    difference = first_difference(_restricted(study, both), _restricted(known, both))
    if difference:
        raise ConfigError(f"--output: {run.path} has another config ({difference}); choose another")


def _restricted(study: StudyConfig, names: Iterable[str]) -> StudyConfig:
    """With these objectives alone, in a fixed order: which there are is up to the checkpoints."""
    chosen = sorted((each for each in study.objectives if each.name in names), key=lambda o: o.name)
    return study.model_copy(update={"objectives": tuple(chosen)})


def _with_objectives(study: StudyConfig, names: Sequence[str]) -> StudyConfig:
    """The study with these objectives: its own in its order, then others with their defaults."""
    values = study.model_dump()
    own = [each for each in values["objectives"] if each["name"] in names]
    others = [name for name in names if name not in study.objective_names]
    return StudyConfig.model_validate({**values, "objectives": [*own, *others]})


def adopt(planned: AdoptedRun, purpose: str) -> None:
    """Make the run directory that points to the snapshots, unless it is there as it should be.

    purpose: the subcommand. Raises CheckpointError, with nothing written, where the first snapshot
    of an objective cannot be read, does not fit the config, or is not the one known before.
    """
    before = RunDirectory(planned.run.path)
    if _is_adopted(before, planned):
        return
    run, study = planned.run, planned.given
    found = _initial_weights(planned)
    if before.exists:
        manifest = _adopted_again(before, planned, found)
    else:
        manifest = adopted_manifest(run.path.resolve().name, found)
    if study is not None:
        manifest = manifest.model_copy(update={"name": study.name})
    with run_lock(run.path, purpose):
        if study is not None:
            run.write_config(study)
        write_pointer(run.pointer_file, planned.checkpoints)
        manifest.write(run.manifest_file)


def adopted_manifest(name: str, initial_weights: dict[str, str]) -> Manifest:
    """What is known of a run that another program trained, as it is adopted now.

    initial_weights: digests of those snapshots of epoch 0 that are there, by objective.
    """
    return Manifest(
        name=name,
        status="adopted",
        started_at=now(),
        updated_at=now(),
        seed=None,
        versions=package_versions(),
        machine={},
        git_commit=None,
        placement="unknown",
        num_processes=0,
        threads_per_process=0,
        num_train_images=None,
        num_classes=None,
        initial_weights=initial_weights,
    )


def _adopted_again(run: RunDirectory, planned: AdoptedRun, found: dict[str, str]) -> Manifest:
    """The present manifest with further digests; CheckpointError where a known one differs."""
    manifest = Manifest.read(run.manifest_file)
    known = manifest.initial_weights
    for name, value in found.items():
        if known.get(name, value) != value:
            raise CheckpointError(
                f"{planned.file(name, 0)}: is not the snapshot that {run.path} was adopted with "
                f"(SHA-256 {shortened(value)} here, {shortened(known[name])} there); "
                "choose another --output"
            )
    return manifest.updated(initial_weights={**known, **found})


def _is_adopted(run: RunDirectory, planned: AdoptedRun) -> bool:
    """Whether the run points to these snapshots already, and has this config."""
    before = open_adopted(run) if run.exists else None
    if before is None or before.checkpoints != planned.checkpoints:
        return False
    if any(0 in epochs for epochs in before.changed().values()):
        return False  # its digest has to be looked at again
    return planned.given is None or (run.config_file.exists() and run.config == planned.given)


def _initial_weights(planned: AdoptedRun) -> dict[str, str]:
    """Digests of encoder and projector at epoch 0, by objective, where they were saved."""
    from alignctl.encoders.torchvision_names import with_timm_names
    from alignctl.models.fitted import fitted_network
    from alignctl.models.weights import shared_weights
    from alignctl.original.snapshot_tensors import load_snapshot
    from alignctl.runs.checkpoints import digest

    found, study = {}, planned.given
    for name in planned.objectives:
        first = min(planned.epochs(name), default=None)
        if first is None or (first > 0 and study is None):
            continue
        path = planned.file(name, first)
        weights = shared_weights(load_snapshot(path))
        if study is not None:
            fitted_network(study, with_timm_names(weights), path)
        if first == 0:
            found[name] = digest(weights)
    return found
