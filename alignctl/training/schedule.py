"""The learning rate over time, as a factor."""

import math


def warmup_cosine(epoch: float, *, warmup_epochs: float, total_epochs: float) -> float:
    """The factor on the learning rate, in [0, 1]: a linear warm-up times a half cosine.

    min(1, (epoch + 1) / warmup_epochs) * (1 + cos(pi * epoch / total_epochs)) / 2, with `epoch`
    counted from 0 and no warm-up where `warmup_epochs` is 0. Any unit of time will do, steps as
    well as epochs, if it is the same for all three.
    Raises ValueError unless 0 <= epoch <= total_epochs, total_epochs > 0 and warmup_epochs >= 0.
    Source: Luthra et al. 2025 (arXiv 2510.08852); the half cosine from Loshchilov & Hutter 2017.
    """
    if not 0 < total_epochs < math.inf:
        raise ValueError(f"total_epochs: must be positive and finite, got {total_epochs}")
    if not 0 <= warmup_epochs < math.inf:
        raise ValueError(f"warmup_epochs: must be finite and not negative, got {warmup_epochs}")
    if not 0 <= epoch <= total_epochs:
        raise ValueError(f"epoch: must lie in [0, {total_epochs}], got {epoch}")
    warmup = min(1.0, (epoch + 1) / warmup_epochs) if warmup_epochs else 1.0
    return warmup * 0.5 * (1.0 + math.cos(math.pi * epoch / total_epochs))
