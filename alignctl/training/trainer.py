"""What each training process does: build, train step by step, save, report."""

import os
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from alignctl.config import StudyConfig
from alignctl.config.work_division import grid
from alignctl.datasets import loading_writes
from alignctl.encoders import check_image_size
from alignctl.engine.collectives import make_mesh
from alignctl.engine.context import WorkerContext
from alignctl.errors import DataError
from alignctl.objectives import StepProgress
from alignctl.runs import Manifest, RunDirectory
from alignctl.training.cohort import build_member
from alignctl.training.data import TrainingData, check_test_data, load_training_data
from alignctl.training.fingerprint import fingerprint
from alignctl.training.log import TrainingLog
from alignctl.training.part import EpochPart, after_part
from alignctl.training.record import (
    Progress,
    Session,
    begin,
    open_run,
    restore,
    save,
    write_tables,
)
from alignctl.training.schedule import warmup_cosine

_REPORT_EVERY_S = 0.5
_SAVE_EVERY_S = 600.0  # between epochs without a checkpoint, so that a crash costs little


@dataclass(frozen=True)
class TrainingJob:
    """What to train and where to keep it; goes on from the last saved state where there is one."""

    study: StudyConfig
    run: Path


def train(context: WorkerContext, job: TrainingJob) -> Manifest | None:
    """Train this process's share of the study; the first process returns the manifest.

    Returns early, with everything saved, where the context says to stop.
    """
    session = _open_session(context, job)
    progress = restore(session, open_run(session))
    progress, log = begin(session, progress)
    _report_start(session, progress)
    for text in session.data.notices:
        context.report("notice", text=text)
    if progress.saved_step is None:
        first_epoch = 0 if 0 in session.study.saved_epochs else None
        progress = save(session, progress, log, weights_of_epoch=first_epoch)
    saved_at = time.monotonic()
    while progress.step < session.num_steps:
        epoch, first_step = divmod(progress.step, session.data.steps_per_epoch)
        part = _train_steps(session, epoch=epoch, first_step=first_step)
        late = time.monotonic() - saved_at > _SAVE_EVERY_S
        parts = context.gather((part, late))
        progress = after_part(session, progress, log, [part for part, _ in parts], epoch=epoch + 1)
        if progress.manifest.finished_epochs == epoch:
            return _stop(session, progress, log)
        keep = epoch + 1 in session.study.saved_epochs
        if keep or parts[0][1]:  # the first process's clock decides for all
            progress = save(session, progress, log, weights_of_epoch=epoch + 1 if keep else None)
            saved_at = time.monotonic()
    context.no_more_steps()
    return progress.manifest if context.is_first else None


def _open_session(context: WorkerContext, job: TrainingJob) -> Session:
    study = job.study
    if context.device.type == "cuda":
        ask_for_repeatable_kernels(study)
    shape = grid(study, context.size)
    mesh = make_mesh(context.device.type, shape.num_groups, shape.num_shares)
    data = _load_in_turn(context, job)
    check_image_size(study.encoder, *data.image_shape)
    members = [
        build_member(study, config, num_classes=data.num_classes, device=context.device, mesh=mesh)
        for config in study.objectives[mesh.objective_index :: mesh.num_objective_groups]
    ]
    return Session(context, RunDirectory(job.run), study, data, members, mesh.peers)


def ask_for_repeatable_kernels(study: StudyConfig) -> None:
    """Choose deterministic GPU kernels: by default some add in another order every time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
    torch.backends.cudnn.benchmark = False  # which would choose kernels by their measured speed
    # Attention promises repeatable gradients only where others raise; an encoder of timm may
    # have operations that are never repeatable, and would not train at all.
    warn_only = study.encoder.name != "vit"
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _load_in_turn(context: WorkerContext, job: TrainingJob) -> TrainingData:
    """Only the first process downloads or converts; the others wait and find the files.

    It also looks at what evaluation will need, before anything is trained for it.
    """
    study = job.study

    def load() -> TrainingData:
        if not context.is_first:
            return load_training_data(study, context.device)
        return _load_both_splits(context, job)

    return context.in_turn(load) if loading_writes(study.dataset) else load()


def _load_both_splits(context: WorkerContext, job: TrainingJob) -> TrainingData:
    """The training data, after a check of the test split; DataError names the faults of both."""
    unreadable: list[DataError] = []
    notices: tuple[str, ...] = ()
    try:
        notices = check_test_data(job.study, images=not RunDirectory(job.run).exists)
    except DataError as error:
        unreadable.append(error)
    try:
        data = load_training_data(job.study, context.device)
    except DataError as error:
        unreadable.append(error)
    if unreadable:
        raise DataError("\n".join(map(str, reversed(unreadable))))
    return replace(data, notices=tuple(dict.fromkeys((*data.notices, *notices))))


def _report_start(session: Session, progress: Progress) -> None:
    study, steps = session.study, session.data.steps_per_epoch
    session.context.report(
        "start",
        run=str(session.run.path),
        objectives=study.objective_names,
        epochs=study.training.epochs,
        steps_per_epoch=steps,
        batch_size=study.training.batch_size,
        finished_epochs=progress.step // steps,
        finished_steps=progress.step % steps,
    )


def _train_steps(session: Session, *, epoch: int, first_step: int) -> EpochPart:
    """The steps of one epoch (from 0) to its end, or until all processes stop.

    Reads nothing back from the device before its end.
    """
    context, data = session.context, session.data
    training = session.study.training
    losses: dict[str, list[Tensor]] = {member.name: [] for member in session.members}
    rates: list[float] = []
    fingerprints: list[Tensor] = []
    reported = time.perf_counter()
    started = reported
    with closing(
        data.batches(epoch, first_step=first_step, peers=session.peers, received=context.beat)
    ) as batches:
        for step in range(first_step, data.steps_per_epoch):
            if context.stops_before(epoch * data.steps_per_epoch + step):
                break
            batch = next(batches)
            rates.append(training.optimizer.learning_rate * _factor(data, epoch, step))
            fingerprints.append(fingerprint(batch))
            progress = StepProgress(
                step=epoch * data.steps_per_epoch + step,
                num_steps=session.num_steps,
                steps_per_epoch=data.steps_per_epoch,
            )
            for member in session.members:
                loss = member.step(
                    batch,
                    learning_rate=rates[-1],
                    clip_norm=training.clip_norm,
                    progress=progress,
                )
                losses[member.name].append(loss)
            if time.perf_counter() - reported > _REPORT_EVERY_S:
                reported = time.perf_counter()
                context.report("step", epoch=epoch + 1, step=step + 1)
    return EpochPart(
        first_step=first_step,
        losses={name: _to_host(values, torch.float32) for name, values in losses.items()},
        learning_rates=rates,
        fingerprints=[(ids, bits) for ids, bits in _to_host(fingerprints, torch.int64)],
        seconds=time.perf_counter() - started,
    )


def _to_host(values: list[Tensor], dtype: torch.dtype) -> list:  # type: ignore[type-arg]
    return torch.stack(values).to(dtype).tolist() if values else []


def _stop(session: Session, progress: Progress, log: TrainingLog) -> Manifest | None:
    """Save the state at this step, and mark the run as interrupted."""
    context = session.context
    manifest = progress.manifest.updated(status="interrupted")
    if progress.saved_step != progress.step:
        save(session, replace(progress, manifest=manifest), log)
    elif context.is_first:
        write_tables(session, log, manifest)
    return manifest if context.is_first else None


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
