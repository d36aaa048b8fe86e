"""`scl`: the supervised contrastive loss, SupCon."""

import torch
from torch import Tensor, nn

from alignctl.config.objective_configs import SclConfig
from alignctl.objectives.blocks import in_row_blocks
from alignctl.objectives.contrast import (
    check_labels,
    check_temperature,
    check_views,
    full_precision,
    log_denominators,
    part_of_mean,
    unit_views,
)
from alignctl.objectives.objective import AnchorObjective, Objective, ObjectiveContext


def scl_loss(
    views: Tensor, labels: Tensor, temperature: float = 0.5, *, anchors: slice | None = None
) -> Tensor:
    """SupCon (L_out), the mean over 2B anchors, 0-d, >= 0.

    Anchor a: the mean over its positives q (same label, q != a) of -log e^{s(a,q)/t} /
    sum e^{s(a,b)/t}, the sum over all views b != a, s the cosine similarity, t the temperature.
    views: (2, B, D), floating-point, need not be normalised; labels: (B,), integers; the result is
    at least float32. The other view of an anchor's image is always one of its positives.
    anchors: the images whose part of the mean is asked for, their sum over 2B; None: all.
    Raises ValueError for a wrong shape or dtype and for a temperature that is not positive.
    Source: Khosla et al. 2020, eq. 2.
    """
    check_views(views)
    check_temperature(temperature)
    check_labels(labels, views.shape[1])
    own = slice(None) if anchors is None else anchors
    unit = unit_views(views)
    # Every view counts but the anchor itself.
    keys = torch.arange(2 * len(labels), device=views.device).view(2, -1)
    denominators = log_denominators(unit, temperature, keys=keys, anchors=own)
    attraction = _mean_similarity_to_class(unit, labels, own) / temperature
    return part_of_mean(denominators - attraction.flatten(), len(labels))


def _mean_similarity_to_class(unit: Tensor, labels: Tensor, anchors: slice) -> Tensor:
    """Mean cosine similarity of each of 2n anchors to the other views of its class, (2, n)."""
    view_sums = unit.sum(dim=0)

    def sum_class(row_labels: Tensor) -> Tensor:
        same = row_labels[:, None] == labels
        with full_precision(unit):
            return same.to(unit.dtype) @ view_sums

    def count_class(row_labels: Tensor) -> Tensor:
        return (row_labels[:, None] == labels).sum(dim=1)

    rows, width = [labels[anchors]], len(labels)
    own, class_sums = unit[:, anchors], in_row_blocks(sum_class, rows, width=width)
    # A view's similarities add up to its product with the sum of the views, less its own square.
    sums = (own * (class_sums - own)).sum(dim=-1)
    return sums / (2 * in_row_blocks(count_class, rows, width=width) - 1)


def build_scl(config: SclConfig, network: nn.Module, context: ObjectiveContext) -> Objective:
    """The objective `scl`."""
    return AnchorObjective(
        lambda views, labels, anchors: scl_loss(views, labels, context.temperature, anchors=anchors)
    )
