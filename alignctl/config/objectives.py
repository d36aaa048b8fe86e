"""Which objectives are trained, each with the options that are its own."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from alignctl.config.base import ConfigModel


class ClConfig(ConfigModel):
    """NT-Xent, the contrastive loss of SimCLR: it never sees a label."""

    uses_labels: ClassVar[bool] = False
    name: Literal["cl"] = "cl"


class DclConfig(ConfigModel):
    """`cl` without the positive in its denominator."""

    uses_labels: ClassVar[bool] = False
    name: Literal["dcl"] = "dcl"


class NsclConfig(ConfigModel):
    """`cl` whose negatives are only the images of other classes."""

    uses_labels: ClassVar[bool] = True
    name: Literal["nscl"] = "nscl"
    positive_in_denominator: bool = True
    """False for the formula of the paper, true for what its code computes."""


class SclConfig(ConfigModel):
    """Supervised contrastive loss: every view of the same class is a positive."""

    uses_labels: ClassVar[bool] = True
    name: Literal["scl"] = "scl"


class CeConfig(ConfigModel):
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
