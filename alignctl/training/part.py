"""Steps of one epoch: of each process, and merged over all processes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from alignctl.errors import TrainingError
from alignctl.training.fingerprint import Fingerprint, add_fingerprints, epoch_digest
from alignctl.training.finite import advice
from alignctl.training.log import TrainingLog
from alignctl.training.record import Progress, Session


@dataclass(frozen=True)
class EpochPart:
    """Consecutive steps of one epoch."""

    first_step: int
    losses: dict[str, list[float]]
    """By objective, at every step; of a process with peers, its part of each."""
    learning_rates: list[float]
    fingerprints: list[Fingerprint]
    """Of the batches; of a process with peers, of its share of each."""
    seconds: float


def after_part(
    session: Session,
    progress: Progress,
    log: TrainingLog,
    parts: Sequence[EpochPart],
    *,
    epoch: int,
) -> Progress:
    """Add what all processes did of one epoch (from 1) to log and progress, and tell who listens.

    TrainingError where processes saw different data, and for a loss that is not finite.
    """
    part = merged(parts, num_shares=session.peers.size, epoch=epoch)
    first = _first_not_finite(part)
    if first is not None:
        objective, step, loss = first
        kept = advice(progress.saved_step, steps_per_epoch=session.data.steps_per_epoch)
        raise TrainingError(
            f"objective '{objective}': the loss is {loss} at epoch {epoch}, step {step}; {kept}"
        )
    log.add(epoch, part.losses, first_step=part.first_step, learning_rates=part.learning_rates)
    num_steps = len(part.learning_rates)
    manifest = progress.manifest
    manifest = manifest.updated(training_s=round(manifest.training_s + part.seconds, 3))
    fingerprints = (*progress.fingerprints, *part.fingerprints)
    step = progress.step + num_steps
    if len(fingerprints) < session.data.steps_per_epoch:
        return replace(progress, step=step, manifest=manifest, fingerprints=fingerprints)
    manifest = manifest.updated(
        finished_epochs=epoch, batches={**manifest.batches, epoch: epoch_digest(fingerprints)}
    )
    session.context.report(
        "epoch",
        epoch=epoch,
        losses=log.means(epoch),
        learning_rate=part.learning_rates[-1],
        steps=num_steps,
        seconds=part.seconds,
    )
    return replace(progress, step=step, manifest=manifest, fingerprints=())


def merged(parts: Sequence[EpochPart], *, num_shares: int, epoch: int) -> EpochPart:
    """The merged part of all processes; those with neighbouring ranks share batches."""
    groups = [parts[start : start + num_shares] for start in range(0, len(parts), num_shares)]
    losses = {
        name: [sum(values) for values in zip(*(p.losses[name] for p in group), strict=True)]
        for group in groups
        for name in group[0].losses
    }
    seen = [
        [add_fingerprints(shares) for shares in zip(*(p.fingerprints for p in group), strict=True)]
        for group in groups
    ]
    if any(other != seen[0] for other in seen):
        raise TrainingError(f"the processes saw different images or views in epoch {epoch}")
    return replace(parts[0], losses=losses, fingerprints=seen[0])


def _first_not_finite(part: EpochPart) -> tuple[str, int, float] | None:
    """Objective, step of the epoch (from 1) and loss of the first that is not finite."""
    for step, losses in enumerate(zip(*part.losses.values(), strict=True), part.first_step + 1):
        for objective, loss in zip(part.losses, losses, strict=True):
            if not math.isfinite(loss):
                return objective, step, loss
    return None
