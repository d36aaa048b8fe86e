"""What is trained: the encoder and the projector on top of it."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from alignctl.config.base import ConfigModel, DataPath, Execution


class _Encoder(ConfigModel):
    """What every family of encoders has."""

    weights: Annotated[
        DataPath | None, Execution(proof="encoder_weights", unless_left_out=True)
    ] = None
    """A file of encoder weights to begin from (.safetensors, .pth) instead of random ones."""


class ResNetConfig(_Encoder):
    """A torchvision ResNet without its classifier."""

    name: Literal["resnet18", "resnet34", "resnet50", "resnet101"]
    width: PositiveFloat = 1.0
    """Multiplies the channels of every layer."""
    stem: Literal["small_image", "imagenet"] = "small_image"
    """small_image: 3x3 convolution, stride 1, no max-pool; imagenet: 7x7, stride 2, max-pool."""


class ViTConfig(_Encoder):
    """timm's vision transformer without its classifier; the defaults are CIFAR's."""

    name: Literal["vit"]
    image_size: PositiveInt = 32
    patch_size: PositiveInt = 4
    num_layers: PositiveInt = 12
    num_heads: PositiveInt = 12
    hidden_dim: PositiveInt = 384
    mlp_dim: PositiveInt = 1536

    @model_validator(mode="after")
    def _divisible(self) -> "ViTConfig":
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                f"hidden_dim {self.hidden_dim} is not a multiple of num_heads {self.num_heads}"
            )
        return self


class TimmConfig(_Encoder):
    """Any model of timm by its name there, without its classifier."""

    name: Literal["timm"]
    model: str
    """Such as vit_small_patch16_224 or resnet50."""
    image_size: PositiveInt | None = None
    """For models that are built for one size of image; theirs when left out."""


EncoderConfig = Annotated[ResNetConfig | ViTConfig | TimmConfig, Field(discriminator="name")]


class ProjectorConfig(ConfigModel):
    """Linear, batch norm, ReLU, linear, batch norm without a trained bias."""

    hidden_dim: PositiveInt = 2048
    output_dim: PositiveInt = 128
