"""Two objectives that exist for tests only, each with all that an objective may have.

`momentum` has a copy of the whole network that follows it, a predictor with a learning rate of its
own that starts after the first epoch, schedules, and small views beside the shared ones. `masked`
hides random patches of each image and has a decoder that predicts them. Importing this module
changes nothing; `registered` makes both known to configs and to the engine while it is open.
"""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from alignctl.config import StudyConfig
from alignctl.config import objective_configs as configs
from alignctl.config.objective_configs import BatchNeeds, ObjectiveSettings, ViewGroup
from alignctl.objectives import (
    OBJECTIVES,
    Objective,
    ObjectiveContext,
    ParameterGroup,
    StepProgress,
    ViewBatch,
)

NUM_PATCHES = 16  # 4 x 4


class MomentumConfig(ObjectiveSettings):
    """Predict a slow copy's projection of the other view."""

    uses_labels: ClassVar[bool] = False
    name: Literal["momentum"] = "momentum"
    momentum: float = 0.9

    def needs(self, study: StudyConfig) -> BatchNeeds:
        return BatchNeeds(views={"local": ViewGroup(num_views=3, crop_scale=(0.05, 0.3))})


class MaskedConfig(ObjectiveSettings):
    """Predict patches that are hidden from the encoder."""

    uses_labels: ClassVar[bool] = False
    name: Literal["masked"] = "masked"
    num_hidden: int = 12

    def needs(self, study: StudyConfig) -> BatchNeeds:
        return BatchNeeds(uniforms={"mask": NUM_PATCHES})


class MomentumObjective(Objective):
    """Half the squared distance of predicted and slow unit projections, the mean over images."""

    def __init__(self, network: nn.Module, projection_dim: int, momentum: float) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        self.predictor = nn.Linear(projection_dim, projection_dim)
        self.register_buffer("center", torch.zeros(projection_dim))
        self._momentum = momentum

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        return [
            ParameterGroup(
                list(self.predictor.parameters()),
                options={"weight_decay": 0.0},
                learning_rate_factor=lambda progress: 2.0 - progress.fraction,
            )
        ]

    def forward(self, network: nn.Module, batch: ViewBatch) -> Tensor:
        views = batch.images.shape[0]
        predicted = self.predictor(network(batch.images.flatten(0, 1)).g)
        with torch.no_grad():
            slow = self.teacher(batch.images.flatten(0, 1)).g
            slow = slow - self.center.to(slow.dtype)
            self._new_center = batch.peers.gather_tensor(slow + self.center, dim=0).mean(0)
        shape = (views, len(batch.labels), -1)
        ours = F.normalize(predicted, dim=-1).view(shape)
        theirs = F.normalize(slow, dim=-1).view(shape).flip(0)
        small = self.predictor(network(batch.groups["local"].flatten(0, 1)).g)
        small = F.normalize(small, dim=-1).view(-1, len(batch.labels), small.shape[-1])
        of_small = (small - theirs[:1]).square().sum(-1).mean()
        return ((ours - theirs).square().sum(-1).mean() + of_small) / 2 / batch.peers.size

    def before_optimizer_step(self, network: nn.Module, progress: StepProgress) -> None:
        if progress.epoch == 0:
            for parameter in self.predictor.parameters():
                parameter.grad = None

    @torch.no_grad()
    def after_step(self, network: nn.Module, progress: StepProgress) -> None:
        momentum = 1 - (1 - self._momentum) * (1 - progress.fraction)
        for slow, fast in zip(self.teacher.parameters(), network.parameters(), strict=True):
            slow.lerp_(fast, 1 - momentum)
        self.center.lerp_(self._new_center.to(self.center.dtype), 0.5)


class MaskedObjective(Objective):
    """The squared error of the hidden patches' values, the mean over patches and images."""

    def __init__(self, feature_dim: int, num_hidden: int) -> None:
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(feature_dim, 8), nn.GELU(), nn.Linear(8, 48))
        self._num_hidden = num_hidden

    def forward(self, network: nn.Module, batch: ViewBatch) -> Tensor:
        images = batch.images[0]
        order = batch.uniforms("mask", NUM_PATCHES).argsort(dim=1)
        hidden = order.argsort(dim=1) < self._num_hidden  # (B, 16)
        size = images.shape[-1]
        grid = hidden.view(-1, 1, 4, 4).to(images.dtype)
        shown = images * (1 - F.interpolate(grid, size=(size, size)))
        decoded = self.decoder(network(shown).h).view(-1, 3, NUM_PATCHES)
        target = F.adaptive_avg_pool2d(images, 4).flatten(2)
        errors = (decoded - target).square().mean(1) * hidden
        return errors.sum() / (self._num_hidden * len(images) * batch.peers.size)


def build_momentum(
    config: MomentumConfig, network: nn.Module, context: ObjectiveContext
) -> Objective:
    return MomentumObjective(network, context.projection_dim, config.momentum)


def build_masked(config: MaskedConfig, network: nn.Module, context: ObjectiveContext) -> Objective:
    return MaskedObjective(network.encoder.feature_dim, config.num_hidden)


TRIALS = {"momentum": build_momentum, "masked": build_masked}


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """Both objectives are known while this is open."""
    before, builders = StudyConfig.model_fields["objectives"].annotation, dict(OBJECTIVES)
    known = Annotated[
        configs._AnyObjective.__origin__ | MomentumConfig | MaskedConfig,
        Field(discriminator="name"),
    ]
    wanted: Any = tuple[Annotated[known, BeforeValidator(configs._from_name)], ...]
    _let_studies_take(wanted)
    OBJECTIVES.update(TRIALS)
    try:
        yield
    finally:
        OBJECTIVES.clear()
        OBJECTIVES.update(builders)
        _let_studies_take(before)


def _let_studies_take(objectives: Any) -> None:
    StudyConfig.model_fields["objectives"].annotation = objectives
    StudyConfig.model_rebuild(force=True)
