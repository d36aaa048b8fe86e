"""What each training process does: build, train epoch by epoch, save, report."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from alignctl.config import StudyConfig
from alignctl.engine.context import WorkerContext
from alignctl.errors import TrainingError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import (
    checkpoint_file,
    digest,
    drop_states_before,
    load_state,
    resumable_epoch,
    save_state,
    save_weights,
)
from alignctl.runs.manifest import git_commit, machine, now, package_versions
from alignctl.training.cohort import Member, build_member
from alignctl.training.data import TrainingData, load_training_data
from alignctl.training.fingerprint import epoch_digest, fingerprint
from alignctl.training.log import EpochLosses, TrainingLog
from alignctl.training.schedule import warmup_cosine

_REPORT_EVERY_S = 0.5


@dataclass(frozen=True)
class TrainingJob:
    """What to train and where to keep it; goes on from the last saved state where there is one."""

    study: StudyConfig
    run: Path


@dataclass(frozen=True)
class _EpochResult:
    """What one process knows after one epoch."""

    entries: tuple[EpochLosses, ...]
    batches: str


def train(context: WorkerContext, job: TrainingJob) -> Manifest | None:
    """Train this process's share of the objectives; the first process returns the manifest."""
    study, run = job.study, RunDirectory(job.run)
    data = load_training_data(study, context.device)
    members = [
        build_member(study, config, num_classes=data.num_classes, device=context.device)
        for config in study.objectives[context.rank :: context.world_size]
    ]
    manifest = _open_run(context, run, study, data, members)
    done = _restore(context, run, study, members, manifest)
    log = TrainingLog(run, finished_epochs=done)
    manifest = manifest.updated(
        status="running", error=None, finished_epochs=done,
        batches={epoch: value for epoch, value in manifest.batches.items() if epoch <= done},
    )  # fmt: skip
    context.report(
        "start",
        run=str(run.path),
        objectives=study.objective_names,
        epochs=study.training.epochs,
        steps_per_epoch=data.steps_per_epoch,
        finished_epochs=done,
    )
    if done == 0 and 0 in study.saved_epochs:
        manifest = _save(context, run, members, log, manifest, epoch=0)
    for epoch in range(done + 1, study.training.epochs + 1):
        started = time.perf_counter()
        results = context.gather(_train_epoch(context, data, members, epoch))
        seconds = time.perf_counter() - started
        manifest = _record(context, log, manifest, results, epoch=epoch, seconds=seconds)
        if epoch in study.saved_epochs:
            manifest = _save(context, run, members, log, manifest, epoch=epoch)
    return manifest if context.is_first else None


def _open_run(
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


def _restore(
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


def _train_epoch(
    context: WorkerContext, data: TrainingData, members: list[Member], epoch: int
) -> _EpochResult:
    """One pass over the data; reads nothing back from the device before its end."""
    training = data.study.training
    losses: dict[str, list[Tensor]] = {member.name: [] for member in members}
    rates: list[float] = []
    fingerprints: list[Tensor] = []
    reported = time.perf_counter()
    for step, batch in enumerate(data.batches(epoch - 1)):
        rates.append(training.optimizer.learning_rate * _factor(data, epoch - 1, step))
        fingerprints.append(fingerprint(batch))
        for member in members:
            loss = member.step(batch, learning_rate=rates[-1], clip_norm=training.clip_norm)
            losses[member.name].append(loss)
        if time.perf_counter() - reported > _REPORT_EVERY_S:
            reported = time.perf_counter()
            context.report("step", epoch=epoch, step=step + 1)
    entries = tuple(
        EpochLosses(epoch, name, tuple(torch.stack(values).tolist()), tuple(rates))
        for name, values in losses.items()
    )
    for entry in entries:
        _check_finite(entry)
    return _EpochResult(entries, epoch_digest(fingerprints))


def _factor(data: TrainingData, epoch: int, step: int) -> float:
    """The share of the learning rate at one step; epoch and step from 0."""
    training, steps = data.study.training, data.steps_per_epoch
    if training.schedule.unit == "epoch":
        return warmup_cosine(
            epoch, warmup_epochs=training.schedule.warmup_epochs, total_epochs=training.epochs
        )
    return warmup_cosine(
        epoch * steps + step,
        warmup_epochs=training.schedule.warmup_epochs * steps,
        total_epochs=training.epochs * steps,
    )


def _check_finite(entry: EpochLosses) -> None:
    for step, loss in enumerate(entry.losses, start=1):
        if not math.isfinite(loss):
            raise TrainingError(
                f"objective '{entry.objective}': the loss is {loss} at epoch {entry.epoch}, "
                f"step {step}; try a smaller training.optimizer.learning_rate"
            )


def _record(
    context: WorkerContext,
    log: TrainingLog,
    manifest: Manifest,
    results: list[_EpochResult],
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


def _save(
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
