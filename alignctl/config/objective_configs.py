"""Which objectives are trained, each with the options that are its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from alignctl.config.base import ConfigModel

if TYPE_CHECKING:
    from alignctl.config.study import StudyConfig


@dataclass(frozen=True)
class ViewGroup:
    """Random views of each image beside the two shared ones, and at the same size."""

    num_views: int
    crop_scale: tuple[float, float]
    """Smallest and largest share of the image's area that a crop keeps; all else is as shared."""


@dataclass(frozen=True)
class BatchNeeds:
    """What an objective asks of every batch, beside two views of each image and its label."""

    views: Mapping[str, ViewGroup] = field(default_factory=dict)
    """Further groups of views, by name."""
    uniforms: Mapping[str, int] = field(default_factory=dict)
    """How many random numbers of each image, by what they are for."""


class ObjectiveSettings(ConfigModel):
    """What the configs of all objectives have in common."""

    uses_labels: ClassVar[bool]
    """Whether the loss depends on labels."""

    def needs(self, study: "StudyConfig") -> BatchNeeds:
        """What the objective asks of every batch of a study."""
        return BatchNeeds()


class ClConfig(ObjectiveSettings):
    """NT-Xent, the contrastive loss of SimCLR: it never sees a label."""

    uses_labels: ClassVar[bool] = False
    name: Literal["cl"] = "cl"


class DclConfig(ObjectiveSettings):
    """`cl` without the positive in its denominator."""

    uses_labels: ClassVar[bool] = False
    name: Literal["dcl"] = "dcl"


class NsclConfig(ObjectiveSettings):
    """`cl` whose negatives are only the images of other classes."""

    uses_labels: ClassVar[bool] = True
    name: Literal["nscl"] = "nscl"
    positive_in_denominator: bool = True
    """False for the formula of the paper, true for what its code computes."""


class SclConfig(ObjectiveSettings):
    """Supervised contrastive loss: every view of the same class is a positive."""

    uses_labels: ClassVar[bool] = True
    name: Literal["scl"] = "scl"


class CeConfig(ObjectiveSettings):
    """Cross-entropy of a linear classifier on the normalised projection."""

    uses_labels: ClassVar[bool] = True
    name: Literal["ce"] = "ce"


def _from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


ObjectiveName = Literal["cl", "dcl", "nscl", "scl", "ce"]

_AnyObjective = Annotated[
    ClConfig | DclConfig | NsclConfig | SclConfig | CeConfig, Field(discriminator="name")
]

ObjectiveConfig = Annotated[
    _AnyObjective, BeforeValidator(_from_name, json_schema_input_type=ObjectiveName | _AnyObjective)
]
