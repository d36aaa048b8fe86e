"""What is trained: the encoder and the projector on top of it."""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from alignctl.config.base import ConfigModel


class ResNetConfig(ConfigModel):
    """A torchvision ResNet without its classifier."""

    name: Literal["resnet18", "resnet34", "resnet50"]
    width: PositiveFloat = 1.0
    """Multiplies the channels of every layer."""
    stem: Literal["small_image", "imagenet"] = "small_image"
    """small_image: 3x3 convolution, stride 1, no max-pool; imagenet: 7x7, stride 2, max-pool."""


EncoderConfig = ResNetConfig  # a union by `name` once there is a second family


class ProjectorConfig(ConfigModel):
    """Linear, batch norm, ReLU, linear, batch norm without a trained bias."""

    hidden_dim: PositiveInt = 2048
    output_dim: PositiveInt = 128
