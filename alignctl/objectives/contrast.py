"""What the contrastive losses share: unit views, log-denominators, contrast between groups."""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from alignctl.objectives.blocks import in_row_blocks


def at_least_float32(values: Tensor) -> Tensor:
    """`values`, of any shape, in float32 where they were of a half type; float64 stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def full_precision(values: Tensor) -> torch.autocast:
    """A context without autocast on the device of `values`."""
    return torch.autocast(values.device.type, enabled=False)


def check_views(views: Tensor) -> None:
    """Nothing, if `views` is a floating-point (2, B, D) with B, D >= 1; a ValueError otherwise."""
    if views.ndim != 3 or views.shape[0] != 2 or 0 in views.shape:
        raise ValueError(f"views: expected the shape (2, B, D), got {tuple(views.shape)}")
    if not views.is_floating_point():
        raise ValueError(f"views: expected floating-point numbers, got {views.dtype}")


def check_labels(labels: Tensor, batch_size: int) -> None:
    """Nothing, if `labels` is an integer (B,) with B = `batch_size`; a ValueError otherwise."""
    if labels.shape != (batch_size,):
        raise ValueError(
            f"labels: expected the shape ({batch_size},), one per image, got {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"labels: expected integers, got {labels.dtype}")


def check_temperature(temperature: float) -> None:
    """Nothing, if `temperature` is positive and finite; a ValueError otherwise."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: must be positive and finite, got {temperature}")


def unit_views(views: Tensor) -> Tensor:
    """The views scaled to unit length, (2, B, D), in at least float32."""
    return F.normalize(at_least_float32(views), dim=-1)


def log_denominators(
    unit: Tensor, temperature: float, *, keys: Tensor, anchors: slice = slice(None)
) -> Tensor:
    """log of the sum of e^{s(a, b) / temperature} over the views b that count for an anchor a.

    unit: (2, B, D), unit vectors; keys: (2, B), integers: b counts for a if their keys differ.
    anchors: n of the B images; returns (2n,), one view after the other.
    An anchor for which no view counts gets the dtype's lowest number, and a gradient of 0.
    """
    views, view_keys = unit.flatten(0, 1), keys.flatten()

    def of_rows(rows: Tensor, row_keys: Tensor) -> Tensor:
        with full_precision(rows):
            similarity = (rows / temperature) @ views.T
        # Not -inf: a row without any view would then meet inf - inf, forwards and backwards.
        lowest = torch.finfo(similarity.dtype).min
        return similarity.masked_fill_(row_keys[:, None] == view_keys, lowest).logsumexp(dim=1)

    # Taken from `views`, not `unit`: gradients then add up in one order, to the same last bit.
    own = views.view_as(unit)[:, anchors].flatten(0, 1), keys[:, anchors].flatten()
    return in_row_blocks(of_rows, own, width=len(views))


def group_contrast(
    views: Tensor,
    groups: Tensor | None,
    *,
    temperature: float,
    positive_in_denominator: bool,
    anchors: slice | None = None,
) -> Tensor:
    """Mean over the 2B anchors of the contrast of an image's views against other groups', 0-d.

    views: (2, B, D), floating-point, normalised here. groups: (B,), integers; the negatives are
    the views of images of another group; None: each image is a group of its own.
    anchors: the images whose part of the mean is asked for, their sum over 2B; None: all.
    Without any negative the loss is 0: by definition where the positive is in the denominator, and
    otherwise with a RuntimeWarning, given if B = 1 or the groups lie on the CPU (reading them
    elsewhere would stall the accelerator).
    Raises ValueError for a wrong shape or dtype and for a temperature that is not positive.
    """
    check_views(views)
    check_temperature(temperature)
    batch_size = views.shape[1]
    if groups is None:
        groups = torch.arange(batch_size, device=views.device)
    check_labels(groups, batch_size)
    own = slice(None) if anchors is None else anchors
    unit = unit_views(views)
    keys = groups.expand(2, -1)
    negatives = log_denominators(unit, temperature, keys=keys, anchors=own)
    positives = ((unit[0, own] * unit[1, own]).sum(dim=-1) / temperature).repeat(2)
    if positive_in_denominator:
        # -log(e^p / (e^p + e^n)) = -log sigmoid(p - n)
        return -part_of_mean(F.logsigmoid(positives - negatives), batch_size)
    # With two groups every anchor has a negative, with one group none has.
    has_negatives = (groups != groups[0]).any()
    _warn_without_negatives(has_negatives, batch_size)
    margins = negatives - positives
    return part_of_mean(torch.where(has_negatives, margins, torch.zeros_like(margins)), batch_size)


def part_of_mean(losses: Tensor, batch_size: int) -> Tensor:
    """What `losses` of some of the 2 * `batch_size` anchors add to the mean over all, 0-d."""
    return losses.sum() / (2 * batch_size)


def _warn_without_negatives(has_negatives: Tensor, batch_size: int) -> None:
    if batch_size == 1 or (has_negatives.device.type == "cpu" and not has_negatives):
        message = "no anchor of the batch has a negative: its loss is 0"
        warnings.warn(message, RuntimeWarning, stacklevel=4)
