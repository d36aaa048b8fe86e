"""One study: everything that is held equal, and the objectives that differ."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, field_validator

from alignctl.config.base import ConfigModel, Label, Shared
from alignctl.config.dataset_configs import DatasetConfig
from alignctl.config.encoder_configs import EncoderConfig, ProjectorConfig
from alignctl.config.objective_configs import BatchNeeds, ObjectiveConfig, ViewGroup
from alignctl.config.training_config import AugmentationConfig, TrainingConfig
from alignctl.errors import ConfigError


class StudyConfig(ConfigModel):
    """A complete, validated description of one study."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), Label()]
    """Names the run directory."""
    dataset: Annotated[DatasetConfig, Shared()]
    augmentation: Annotated[AugmentationConfig, Shared()] = AugmentationConfig()
    encoder: Annotated[EncoderConfig, Shared()]
    projector: Annotated[ProjectorConfig, Shared()] = ProjectorConfig()
    objectives: tuple[ObjectiveConfig, ...]
    temperature: PositiveFloat
    """Shared by all contrastive objectives: it is part of what is held equal."""
    training: TrainingConfig
    checkpoint_epochs: tuple[NonNegativeInt, ...] | None = None
    """Epochs after which weights are saved (0: the initial ones); the last epoch always is,
    and those after it are ignored. Left out: 0, every 10 epochs below 100, then every 100."""
    seed: Annotated[NonNegativeInt, Shared()] = 0
    placement: Literal["objectives", "data", "mesh"] = "objectives"
    """objectives: each process trains some of the objectives, all of them on the same batches;
    data: all processes share every batch of every objective; mesh: both at once."""

    @field_validator("objectives")
    @classmethod
    def _once_each(cls, value: tuple[ObjectiveConfig, ...]) -> tuple[ObjectiveConfig, ...]:
        if not value:
            raise ValueError("needs at least one objective")
        names = [objective.name for objective in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"'{name}' is listed twice")
        return value

    @property
    def batch_needs(self) -> BatchNeeds:
        """What the objectives together ask of every batch: of each purpose the most numbers.

        ConfigError where two ask for different views by one name.
        """
        uniforms: dict[str, int] = {}
        views: dict[str, ViewGroup] = {}
        for objective in self.objectives:
            needs = objective.needs(self)
            for purpose, count in needs.uniforms.items():
                uniforms[purpose] = max(count, uniforms.get(purpose, 0))
            for name, group in needs.views.items():
                if views.setdefault(name, group) != group:
                    raise ConfigError(
                        f"objectives: '{objective.name}' asks for other views '{name}' than "
                        "another objective of the study"
                    )
        return BatchNeeds(views=views, uniforms=uniforms)

    @property
    def objective_names(self) -> tuple[str, ...]:
        """The objectives' names, in the order of the config."""
        return tuple(objective.name for objective in self.objectives)

    @property
    def saved_epochs(self) -> tuple[int, ...]:
        """Epochs whose weights are kept, ascending, the last epoch included."""
        last = self.training.epochs
        if self.checkpoint_epochs is not None:
            return tuple(sorted({e for e in self.checkpoint_epochs if e < last} | {last}))
        early = range(0, min(100, last + 1), 10)
        return tuple(sorted({*early, *range(100, last + 1, 100), last}))
