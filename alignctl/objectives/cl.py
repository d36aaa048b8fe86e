"""`cl`: NT-Xent, the contrastive loss of SimCLR."""

from torch import Tensor, nn

from alignctl.config.objective_configs import ClConfig
from alignctl.objectives.contrast import group_contrast
from alignctl.objectives.objective import AnchorObjective, Objective, ObjectiveContext


def cl_loss(views: Tensor, temperature: float = 0.5, *, anchors: slice | None = None) -> Tensor:
    """NT-Xent, the mean over 2B anchors, 0-d, >= 0.

    Anchor a with other view p: -log e^{s(a,p)/t} / (e^{s(a,p)/t} + sum e^{s(a,b)/t}), the sum
    over all views b of other images, s the cosine similarity, t the temperature.
    views: (2, B, D), floating-point, need not be normalised; the result is at least float32.
    B = 1 has no negatives: the loss is 0.
    anchors: the images whose part of the mean is asked for, their sum over 2B; None: all.
    Raises ValueError for a wrong shape or dtype and for a temperature that is not positive.
    Source: Chen et al. 2020 (SimCLR), eq. 1.
    """
    return group_contrast(
        views,
        None,
        temperature=temperature,
        positive_in_denominator=True,
        anchors=anchors,
    )


def build_cl(config: ClConfig, network: nn.Module, context: ObjectiveContext) -> Objective:
    """The objective `cl`; it does not read the labels."""
    return AnchorObjective(
        lambda views, labels, anchors: cl_loss(views, context.temperature, anchors=anchors)
    )
