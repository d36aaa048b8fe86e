"""What an objective is: a loss of a network on a batch, and whatever it owns beside the network."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

from torch import Tensor, nn

from alignctl.objectives.contrast import at_least_float32
from alignctl.processes import ALONE, Processes


@dataclass(frozen=True, eq=False)
class ViewBatch:
    """V augmented views of B images, the same for every objective of a study.

    With `peers`, this process's share of a larger batch: every process holds as many images, in
    the order of ranks.
    """

    images: Tensor
    """(V, B, C, H, W), floating-point."""
    labels: Tensor
    """(B,), integers."""
    ids: Tensor
    """(B,), integers: which sample of the dataset each image is."""
    peers: Processes = ALONE


@dataclass(frozen=True)
class ObjectiveContext:
    """What a study offers to each of its objectives."""

    temperature: float
    num_classes: int
    projection_dim: int


class Representations(Protocol):
    """What a network returns for N images."""

    @property
    def h(self) -> Tensor:
        """(N, encoder width): the encoder's output."""

    @property
    def g(self) -> Tensor:
        """(N, projection_dim): the projector's output."""


def project_views(network: nn.Module, images: Tensor) -> Tensor:
    """The projections of all views, (V, B, D), at least float32, by one forward pass.

    images: (V, B, C, H, W); `network` maps (V * B, C, H, W) to Representations. One pass, so that
    batch norm sees the views together.
    """
    representations: Representations = network(images.flatten(0, 1))
    return at_least_float32(representations.g).reshape(*images.shape[:2], -1)


class Objective(nn.Module, abc.ABC):
    """One training objective, with the parameters and state that are its own."""

    @abc.abstractmethod
    def forward(self, network: nn.Module, batch: ViewBatch) -> Tensor:
        """This process's part of the loss of `network`, which returns Representations: 0-d.

        The parts of all `batch.peers` add up to the loss of the whole batch, and so do the
        gradients that they give the weights; alone, the part is the loss.
        """

    def after_step(self, network: nn.Module) -> None:
        """Bring the objective's own state up to date once the optimiser has moved `network`."""


@final
class ProjectionObjective(Objective):
    """A pure function of (views (V, B, D), labels (B,)), applied to the projections of all peers.

    It returns the loss of the whole batch, 0-d; every process computes it and takes an equal part.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, network: nn.Module, batch: ViewBatch) -> Tensor:
        """This process's part of the loss, 0-d, at least float32."""
        return self.loss(*_gather(network, batch)) / batch.peers.size


@final
class AnchorObjective(Objective):
    """A pure function of (views (V, B, D), labels (B,), anchors), where anchors are work to share.

    It returns the part of the loss that the images of the slice `anchors` have, 0-d: the parts of
    any partition of the B images add up to the loss of the whole batch.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor, slice], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, network: nn.Module, batch: ViewBatch) -> Tensor:
        """The part of this process's images, 0-d, at least float32."""
        share = len(batch.labels)
        first = batch.peers.rank * share
        return self.loss(*_gather(network, batch), slice(first, first + share))


def _gather(network: nn.Module, batch: ViewBatch) -> tuple[Tensor, Tensor]:
    """The projections (V, B, D) and labels (B,) of all peers."""
    views = project_views(network, batch.images)
    return batch.peers.gather_tensor(views, dim=1), batch.peers.gather_tensor(batch.labels, dim=0)
