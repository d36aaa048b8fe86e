"""`nscl`: the contrastive loss whose negatives are supervised."""

from torch import Tensor, nn

from alignctl.config.objective_configs import NsclConfig
from alignctl.objectives.contrast import group_contrast
from alignctl.objectives.objective import AnchorObjective, Objective, ObjectiveContext


def nscl_loss(
    views: Tensor,
    labels: Tensor,
    temperature: float = 0.5,
    positive_in_denominator: bool = True,
    *,
    anchors: slice | None = None,
) -> Tensor:
    """Contrast against images of other classes only, the mean over 2B anchors, 0-d.

    Anchor a with other view p: -log e^{s(a,p)/t} / (e^{s(a,p)/t} + sum e^{s(a,b)/t}), the sum
    over all views b of images with another label, s the cosine similarity, t the temperature.
    positive_in_denominator=False leaves the first term of the denominator out: the paper's formula,
    where True is what its authors' code computes. True gives a loss >= 0, False one of any sign.
    views: (2, B, D), floating-point, need not be normalised; labels: (B,), integers; the result is
    at least float32. A batch of one class has no negatives: the loss is 0; without the positive in
    the denominator a RuntimeWarning says so, if the labels lie on the CPU or B = 1.
    anchors: the images whose part of the mean is asked for, their sum over 2B; None: all.
    Raises ValueError for a wrong shape or dtype and for a temperature that is not positive.
    Source: Luthra et al. 2025 (arXiv 2506.04411), negatives-only supervised contrastive loss.
    """
    return group_contrast(
        views,
        labels,
        temperature=temperature,
        positive_in_denominator=positive_in_denominator,
        anchors=anchors,
    )


def build_nscl(config: NsclConfig, network: nn.Module, context: ObjectiveContext) -> Objective:
    """The objective `nscl`."""
    return AnchorObjective(
        lambda views, labels, anchors: nscl_loss(
            views, labels, context.temperature, config.positive_in_denominator, anchors=anchors
        )
    )
