"""A run as it is kept: opened with proof of a common start, saved so that it can go on."""

from dataclasses import dataclass
from pathlib import Path

import torch

from alignctl.config import StudyConfig
from alignctl.engine.context import WorkerContext
from alignctl.errors import TrainingError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import (
    digest,
    drop_states_before,
    load_state,
    resumable_epoch,
    save_state,
    save_weights,
)
from alignctl.runs.directory import checkpoint_file
from alignctl.runs.manifest import git_commit, machine, now, package_versions
from alignctl.training.cohort import Member
from alignctl.training.data import TrainingData
from alignctl.training.log import EpochLosses, TrainingLog


@dataclass(frozen=True)
class EpochResult:
    """What one process knows after one epoch: its losses, and the digest of what it saw."""

    entries: tuple[EpochLosses, ...]
    batches: str


def open_run(
    context: WorkerContext,
    run: RunDirectory,
    study: StudyConfig,
    data: TrainingData,
    members: list[Member],
) -> Manifest:
    """The manifest, new or the run's own, after proof that all models start from one point."""
    mine = {member.name: digest(member.network.state_dict()) for member in members}
    weights = {name: value for part in context.gather(mine) for name, value in part.items()}
    if len(set(weights.values())) != 1:
        raise TrainingError(f"the initial weights differ between objectives: {weights}")
    fresh = Manifest(
        name=study.name,
        started_at=now(),
        updated_at=now(),
        seed=study.seed,
        versions=package_versions(),
        machine=machine(_device_name(context.device)),
        git_commit=git_commit(Path.cwd()),
        num_processes=context.world_size,
        threads_per_process=context.threads,
        num_train_images=len(data.ids),
        num_classes=data.num_classes,
        initial_weights={name: weights[name] for name in study.objective_names},
    )
    manifest = Manifest.read(run.manifest_file) if run.exists else fresh
    if manifest.initial_weights != fresh.initial_weights:
        raise TrainingError(
            f"{run.manifest_file}: the run began from other initial weights "
            "(made by another version of torch?); start a new run"
        )
    context.wait()  # nobody looks for the run any more: now it may come to be
    if context.is_first and not run.exists:
        run.write_config(study)
        manifest.write(run.manifest_file)
    context.wait()
    return manifest


def restore(
    context: WorkerContext,
    run: RunDirectory,
    study: StudyConfig,
    members: list[Member],
    manifest: Manifest,
) -> int:
    """Load the last state that is whole and recorded; the number of epochs it has behind it."""
    epoch = resumable_epoch(run, study.objective_names, at_most=manifest.finished_epochs)
    if epoch is not None:
        for member in members:
            member.restore(load_state(run, epoch, member.name))
    context.wait()
    return epoch or 0


def begin(
    context: WorkerContext, run: RunDirectory, manifest: Manifest, *, finished_epochs: int
) -> Manifest:
    """Say that the run goes on from here, by these processes."""
    seen = {epoch: value for epoch, value in manifest.batches.items() if epoch <= finished_epochs}
    manifest = manifest.updated(
        status="running",
        error=None,
        finished_epochs=finished_epochs,
        batches=seen,
        num_processes=context.world_size,
        threads_per_process=context.threads,
    )
    if context.is_first:
        manifest.write(run.manifest_file)
    return manifest


def record(
    context: WorkerContext,
    log: TrainingLog,
    manifest: Manifest,
    results: list[EpochResult],
    *,
    epoch: int,
    seconds: float,
) -> Manifest:
    """Add an epoch to log and manifest, and tell who listens."""
    if len({result.batches for result in results}) != 1:
        raise TrainingError(f"the processes saw different images or views in epoch {epoch}")
    entries = {entry.objective: entry for result in results for entry in result.entries}
    ordered = [entries[name] for name in manifest.initial_weights]
    for entry in ordered:
        log.add(entry)
    context.report(
        "epoch",
        epoch=epoch,
        losses={entry.objective: entry.mean for entry in ordered},
        learning_rate=ordered[0].learning_rates[-1],
        steps=len(ordered[0].losses),
        seconds=seconds,
    )
    return manifest.updated(
        finished_epochs=epoch,
        training_s=round(manifest.training_s + seconds, 3),
        batches={**manifest.batches, epoch: results[0].batches},
    )


def save(
    context: WorkerContext,
    run: RunDirectory,
    members: list[Member],
    log: TrainingLog,
    manifest: Manifest,
    *,
    epoch: int,
) -> Manifest:
    """Keep weights and states, then the tables that vouch for them, then drop older states."""
    for member in members:
        save_weights(checkpoint_file(run, member.name, epoch), member.weights())
        save_state(run, epoch, member.name, member.state())
    context.wait()
    if context.is_first:
        finished = epoch == run.config.training.epochs
        manifest = manifest.updated(status="finished" if finished else "running")
        log.write()
        manifest.write(run.manifest_file)
        drop_states_before(run, epoch)
        context.report("checkpoint", epoch=epoch)
    context.wait()
    return manifest


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
