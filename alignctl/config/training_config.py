"""How it is trained: views, batches, optimiser, schedule, precision."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from alignctl.config.base import ConfigModel, Shared

Probability = Annotated[float, Field(ge=0, le=1)]
Triple = tuple[float, float, float]
Precision = Literal["float32", "bfloat16"]


class AugmentationConfig(ConfigModel):
    """The random views of an image; the defaults are the ones of the CIFAR studies."""

    crop_scale: tuple[PositiveFloat, Annotated[float, Field(gt=0, le=1)]] = (0.08, 1.0)
    """Smallest and largest share of the image's area that a crop keeps."""
    crop_ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    """Smallest and largest width / height of a crop."""
    flip_probability: Probability = 0.5
    jitter_probability: Probability = 0.8
    brightness: NonNegativeFloat = 0.4
    contrast: NonNegativeFloat = 0.4
    saturation: NonNegativeFloat = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    grayscale_probability: Probability = 0.2
    blur_probability: Probability = 0.0
    """Gaussian blur, kernel 3, sigma 1.5."""
    mean: Triple = (0.4914, 0.4822, 0.4465)
    """Subtracted from each channel (0 to 1) in training and evaluation; the default is CIFAR's."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.2023, 0.1994, 0.2010)

    @field_validator("crop_scale", "crop_ratio")
    @classmethod
    def _smallest_first(cls, value: tuple[float, float]) -> tuple[float, float]:
        smallest, largest = value
        if smallest > largest:
            raise ValueError(f"the smallest, {smallest:g}, is above the largest, {largest:g}")
        return value


class LarsConfig(ConfigModel):
    """LARS (You et al. 2017): the step of each tensor is scaled by |w| / |gradient|."""

    name: Literal["lars"] = "lars"
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegativeFloat = 1e-6
    trust_coefficient: PositiveFloat = 1e-3
    exclude_bias_and_norm: bool = True
    """False adapts and decays biases and norm parameters too, as the original code does."""


class SgdConfig(ConfigModel):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegativeFloat = 0.0


class AdamWConfig(ConfigModel):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"] = "adamw"
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat = 0.01


OptimizerConfig = Annotated[LarsConfig | SgdConfig | AdamWConfig, Field(discriminator="name")]


class ScheduleConfig(ConfigModel):
    """Linear warm-up times a half cosine."""

    warmup_epochs: NonNegativeInt = 10
    unit: Literal["epoch", "step"] = "epoch"
    """Whether the learning rate moves once per epoch, as in the paper, or at every step."""


class TrainingConfig(ConfigModel):
    """The lock-step loop that all objectives share."""

    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2), Shared()]
    batches: Annotated[Literal["stratified", "uniform"], Shared()] = "stratified"
    """stratified: every batch has the classes in the proportions of the dataset."""
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = ScheduleConfig()
    clip_norm: PositiveFloat | None = 1.0
    """Largest gradient norm of one model; null for no clipping."""
    precision: Precision = "float32"
    """bfloat16: encoder and projector under autocast; losses and metrics stay in float32."""
    channels_last: bool = True
