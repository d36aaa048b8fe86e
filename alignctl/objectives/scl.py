"""`scl`: the supervised contrastive loss, SupCon."""

import torch
from torch import Tensor

from alignctl.config.objectives import SclConfig
from alignctl.objectives.contrast import (
    check_labels,
    check_temperature,
    check_views,
    full_precision,
    log_denominators,
    unit_views,
)
from alignctl.objectives.objective import Objective, ObjectiveContext, ProjectionObjective


def scl_loss(views: Tensor, labels: Tensor, temperature: float = 0.5) -> Tensor:
    """SupCon (L_out), the mean over 2B anchors, 0-d, >= 0.

    Anchor a: the mean over its positives q (same label, q != a) of -log e^{s(a,q)/t} /
    sum e^{s(a,b)/t}, the sum over all views b != a, s the cosine similarity, t the temperature.
    views: (2, B, D), floating-point, need not be normalised; labels: (B,), integers; the result is
    at least float32. The other view of an anchor's image is always one of its positives.
    Raises ValueError for a wrong shape or dtype and for a temperature that is not positive.
    Source: Khosla et al. 2020, eq. 2.
    """
    check_views(views)
    check_temperature(temperature)
    check_labels(labels, views.shape[1])
    unit = unit_views(views)
    itself = torch.eye(2 * len(labels), dtype=torch.bool, device=views.device)
    denominators = log_denominators(unit, temperature, left_out=itself)
    attraction = _mean_similarity_to_class(unit, labels) / temperature
    return (denominators - attraction.flatten()).mean()


def _mean_similarity_to_class(unit: Tensor, labels: Tensor) -> Tensor:
    """Each view's mean cosine similarity to the other views of its class, (2, B)."""
    same = labels[:, None] == labels
    with full_precision(unit):
        class_sums = same.to(unit.dtype) @ unit.sum(dim=0)
    # A view's similarities add up to its product with the sum of the views, less its own square.
    sums = (unit * (class_sums - unit)).sum(dim=-1)
    return sums / (2 * same.sum(dim=1) - 1)


def build_scl(config: SclConfig, context: ObjectiveContext) -> Objective:
    """The objective `scl`."""
    return ProjectionObjective(lambda views, labels: scl_loss(views, labels, context.temperature))
