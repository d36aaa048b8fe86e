"""`ce`: cross-entropy of a linear classifier on the normalised projection."""

import torch.nn.functional as F
from torch import Tensor, nn

from alignctl.config.objective_configs import CeConfig
from alignctl.objectives.contrast import (
    at_least_float32,
    check_labels,
    full_precision,
    unit_views,
)
from alignctl.objectives.objective import Objective, ObjectiveContext, ViewBatch, project_views


def ce_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats, the mean over both views of all images, 0-d, >= 0.

    logits: (2, B, C), floating-point; labels: (B,), integers in [0, C); the result is at least
    float32.
    Raises ValueError for a wrong shape or dtype, and for a label out of range where the labels lie
    on the CPU (reading them elsewhere would stall the accelerator).
    """
    if logits.ndim != 3 or logits.shape[0] != 2 or 0 in logits.shape:
        raise ValueError(f"logits: expected the shape (2, B, C), got {tuple(logits.shape)}")
    if not logits.is_floating_point():
        raise ValueError(f"logits: expected floating-point numbers, got {logits.dtype}")
    check_labels(labels, logits.shape[1])
    num_classes = logits.shape[2]
    if labels.device.type == "cpu" and not ((labels >= 0) & (labels < num_classes)).all():
        raise ValueError(f"labels: must lie in [0, {num_classes}), the classes of the logits")
    return F.cross_entropy(at_least_float32(logits).flatten(0, 1), labels.long().repeat(2))


class CrossEntropyObjective(Objective):
    """Cross-entropy of a linear classifier, its own, on the normalised projection of both views.

    The classifier takes its initial weights from torch's global random stream.
    """

    def __init__(self, projection_dim: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(projection_dim, num_classes)

    def exported(self) -> dict[str, Tensor]:
        """The classifier, without which the trained network names no class."""
        return self.state_dict()

    def forward(self, network: nn.Module, batch: ViewBatch) -> Tensor:
        """This process's part of the loss, 0-d, at least float32."""
        unit = unit_views(project_views(network, batch.images))
        with full_precision(unit):
            logits = self.classifier(unit)
        return ce_loss(logits, batch.labels) / batch.peers.size


def build_ce(config: CeConfig, network: nn.Module, context: ObjectiveContext) -> Objective:
    """The objective `ce`, with a classifier of its own."""
    return CrossEntropyObjective(context.projection_dim, context.num_classes)
