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
from alignctl.training.cohort import Member, build_member
from alignctl.training.data import TrainingData, load_training_data
from alignctl.training.fingerprint import epoch_digest, fingerprint
from alignctl.training.log import EpochLosses, TrainingLog
from alignctl.training.record import EpochResult, begin, open_run, record, restore, save
from alignctl.training.schedule import warmup_cosine

_REPORT_EVERY_S = 0.5


@dataclass(frozen=True)
class TrainingJob:
    """What to train and where to keep it; goes on from the last saved state where there is one."""

    study: StudyConfig
    run: Path


def train(context: WorkerContext, job: TrainingJob) -> Manifest | None:
    """Train this process's share of the objectives; the first process returns the manifest."""
    study, run = job.study, RunDirectory(job.run)
    data = _load_in_turn(context, study)
    members = [
        build_member(study, config, num_classes=data.num_classes, device=context.device)
        for config in study.objectives[context.rank :: context.world_size]
    ]
    manifest = open_run(context, run, study, data, members)
    done = restore(context, run, study, members, manifest)
    log = TrainingLog(run, finished_epochs=done)
    manifest = begin(context, run, manifest, finished_epochs=done)
    context.report(
        "start",
        run=str(run.path),
        objectives=study.objective_names,
        epochs=study.training.epochs,
        steps_per_epoch=data.steps_per_epoch,
        finished_epochs=done,
    )
    if done == 0 and 0 in study.saved_epochs:
        manifest = save(context, run, members, log, manifest, epoch=0)
    for epoch in range(done + 1, study.training.epochs + 1):
        started = time.perf_counter()
        results = context.gather(_train_epoch(context, data, members, epoch))
        seconds = time.perf_counter() - started
        manifest = record(context, log, manifest, results, epoch=epoch, seconds=seconds)
        if epoch in study.saved_epochs:
            manifest = save(context, run, members, log, manifest, epoch=epoch)
    return manifest if context.is_first else None


def _load_in_turn(context: WorkerContext, study: StudyConfig) -> TrainingData:
    """Only the first process downloads; the others wait and find the files."""
    downloads = getattr(study.dataset, "download", False)
    if downloads and not context.is_first:
        context.wait()
    data = load_training_data(study, context.device)
    if downloads and context.is_first:
        context.wait()
    return data


def _train_epoch(
    context: WorkerContext, data: TrainingData, members: list[Member], epoch: int
) -> EpochResult:
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
    return EpochResult(entries, epoch_digest(fingerprints))


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
