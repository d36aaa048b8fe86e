"""What an objective is: a loss of a network on a batch, and whatever it owns beside the network."""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, final

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
    groups: Mapping[str, Tensor] = field(default_factory=dict)
    """Further views, for objectives whose configs ask for them: (V', B, C, H, W) by name."""
    draws: Mapping[str, Tensor] = field(default_factory=dict)
    """Random numbers of each image by purpose, (B, n) float32 in [0, 1); see `uniforms`."""

    def uniforms(self, purpose: str, num_draws: int) -> Tensor:
        """Random numbers of each image, uniform in [0, 1): (B, num_draws) float32, on the device.

        They depend on (seed, purpose, epoch, image) alone, and the epoch's digest covers them.
        Raises ValueError where no config of an objective asks for so many in its `needs`.
        """
        drawn = self.draws.get(purpose)
        available = 0 if drawn is None else drawn.shape[1]
        if drawn is None or num_draws > available:
            raise ValueError(
                f"'{purpose}': {num_draws} random numbers per image are wanted, but the configs "
                f"of the objectives ask for {available}; see `needs`"
            )
        return drawn[:, :num_draws]


@dataclass(frozen=True)
class StepProgress:
    """Where training stands at one of its steps; schedules are functions of it."""

    step: int
    """Steps behind, over all epochs."""
    num_steps: int
    """Steps of the whole study."""
    steps_per_epoch: int

    @property
    def epoch(self) -> int:
        """The epoch of the step, from 0."""
        return self.step // self.steps_per_epoch

    @property
    def fraction(self) -> float:
        """The share of training that is behind, in [0, 1)."""
        return self.step / self.num_steps


ONLY_STEP = StepProgress(step=0, num_steps=1, steps_per_epoch=1)
"""The progress of a training that has a single step."""


def _one(progress: StepProgress) -> float:
    return 1.0


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters that the optimiser treats in a way of their own."""

    parameters: Sequence[nn.Parameter]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the optimiser that differ for these, such as `weight_decay`."""
    learning_rate_factor: Callable[[StepProgress], float] = _one
    """What the study's learning rate is multiplied by, at every step."""


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
    """One training objective, with the parameters and state that are its own.

    Its parameters are trained unless they take no gradient; all of its state is saved and restored
    with the run, bit by bit.
    """

    @abc.abstractmethod
    def forward(self, network: nn.Module, batch: ViewBatch) -> Tensor:
        """This process's part of the loss of `network`, which returns Representations: 0-d.

        The parts of all `batch.peers` add up to the loss of the whole batch, and so do the
        gradients that they give the weights; alone, the part is the loss. On every peer the same
        parameters get a gradient, and the same collectives are called in the same order.
        """

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Groups of its own parameters; those in none are treated as the network's are."""
        return ()

    def exported(self) -> dict[str, Tensor]:
        """Those of its tensors that belong into a checkpoint beside the network's, by name.

        All others, such as a teacher or a decoder, are kept with what resuming needs alone.
        """
        return {}

    def before_optimizer_step(self, network: nn.Module, progress: StepProgress) -> None:
        """Change gradients, already summed over peers and clipped, before they are used."""

    def after_step(self, network: nn.Module, progress: StepProgress) -> None:
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
