"""What a config file of the paper's own code, understanding-ssl-v2, holds."""

import re
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, field_validator

from alignctl.config.base import ConfigModel

_Dataset = Literal[
    "cifar10", "cifar100", "svhn", "tiny_imagenet", "mini_imagenet", "full_imagenet", "imagenet"
]


class _Section(ConfigModel):
    """The keys that are translated; a file may have others, which are ignored."""

    model_config = ConfigDict(extra="allow")


class DatasetSection(_Section):
    """Its `dataset`."""

    name: _Dataset
    path: str | None = None

    @property
    def current_name(self) -> str:
        """Its name today: older files call mini_imagenet imagenet."""
        return "mini_imagenet" if self.name == "imagenet" else self.name

    @property
    def image_size(self) -> int:
        """Height and width of what its networks see."""
        return {"tiny_imagenet": 64, "mini_imagenet": 224, "full_imagenet": 224}.get(
            self.current_name, 32
        )


class TrainingSection(_Section):
    """Its `training`."""

    batch_size: Annotated[int, Field(ge=2)]
    num_epochs: PositiveInt
    lr: PositiveFloat
    save_every: PositiveInt
    augmentations_type: Literal["cifar", _Dataset] | None = None
    augment_both: bool = True

    @field_validator("augment_both")
    @classmethod
    def _both(cls, value: bool) -> bool:
        if not value:
            raise ValueError("false has no counterpart here: both views are augmented")
        return value

    @property
    def learning_rate(self) -> float:
        """Of the whole batch, one process."""
        return self.lr * self.batch_size / 256

    @property
    def saved_epochs(self) -> list[int]:
        """Epochs before which it saves its models, counted from 0."""
        early = range(0, min(100, self.num_epochs), 10)
        return sorted({*early, *range(0, self.num_epochs, self.save_every)})


class ModelSection(_Section):
    """Its `model`."""

    encoder_type: Literal["resnet18", "resnet34", "resnet50", "resnet101", "vit_b"]
    pretrained: bool = False
    width_multiplier: PositiveFloat = 1.0
    hidden_dim: PositiveInt
    projection_dim: PositiveInt

    @field_validator("pretrained")
    @classmethod
    def _from_scratch(cls, value: bool) -> bool:
        if value:
            raise ValueError(
                "true has no counterpart here: set it to false; the override "
                "encoder.weights=FILE begins from a file of weights"
            )
        return value


class LossSection(_Section):
    """Its `loss`."""

    temperature: PositiveFloat


class OriginalConfig(_Section):
    """One of its config files: the keys that decide what is trained."""

    experiment_name: str
    method_type: Literal["simclr"] = "simclr"
    supervision: Literal["DCL", "CL", "SSL"] | None = None
    dataset: DatasetSection
    training: TrainingSection
    model: ModelSection
    loss: LossSection

    @field_validator("experiment_name")
    @classmethod
    def _names_something(cls, value: str) -> str:
        if not _legal(value):
            raise ValueError(f"needs a letter or a digit, got {value!r}")
        return value

    @property
    def name(self) -> str:
        """The experiment's name without what no folder of ours has in its name."""
        return _legal(self.experiment_name)

    @property
    def augmentations(self) -> str:
        """What decides the views and their normalisation: `cifar`, `imagenet` or a dataset."""
        return self.training.augmentations_type or self.dataset.name


def _legal(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-").rstrip("-")


def kind_of_views(name: str) -> Literal["cifar", "tiny_imagenet", "imagenet"]:
    """Which of three recipes of views a dataset or an augmentations_type stands for."""
    if name.startswith("cifar") or name == "svhn":
        return "cifar"
    return "tiny_imagenet" if name == "tiny_imagenet" else "imagenet"
