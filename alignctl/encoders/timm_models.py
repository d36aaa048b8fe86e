"""Any model of timm, without its classifier and without randomness of its own."""

from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import TorchDispatchMode

from alignctl.config.encoder_configs import TimmConfig
from alignctl.config.validation import nearest
from alignctl.errors import ConfigError

# What timm's modules call the shares that they drop.
_RATES = ("drop_prob", "drop_rate")


def build_timm_model(config: TimmConfig) -> nn.Module:
    """timm's model, images (B, 3, H, W) to features (B, feature_dim); names as in timm.

    Dropout and stochastic depth are off: they would draw from the global generator. On the CPU even
    where torch builds on the meta device: tables that are no weights would stay empty there.
    Raises ConfigError where there is no such model, or it gives no vector for each image.
    """
    feature_dim = _feature_dim(config)
    with torch.device("cpu"):
        model = _create(config)
    model.feature_dim = feature_dim
    model.any_layout = True  # of maps between its layers
    return model  # type: ignore[no-any-return]


def try_image_size(config: TimmConfig, height: int, width: int) -> None:
    """Raise ConfigError, with the model's own reason, where it takes no images of this size."""
    _outcome(config, (height, width))


def _feature_dim(config: TimmConfig) -> int:
    """The length of the vectors that the model gives; ConfigError where it gives something else.

    What timm calls num_features is not it for models that widen after pooling.
    """
    side = config.image_size
    output, chance = _outcome(config, None if side is None else (side, side))
    if not isinstance(output, Tensor) or output.ndim != 2:
        found = tuple(output.shape[1:]) if isinstance(output, Tensor) else type(output).__name__
        raise ConfigError(
            f"encoder.model: '{config.model}' does not give one vector for each image (but {found})"
        )
    if chance:
        raise ConfigError(
            f"encoder.model: '{config.model}' draws random numbers of its own ({chance}), "
            "which objectives cannot share"
        )
    return output.shape[1]


@lru_cache(maxsize=16)
def _outcome(config: TimmConfig, size: tuple[int, int] | None) -> tuple[Any, str | None]:
    """The output of the model in training for two images, and its first random operation, if any.

    size: height and width; those of the images that timm trained it on, when None. On the meta
    device: shapes without numbers, in a fraction of a second.
    """
    with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
        model = _create(config).train()
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_pre_hook(partial(_refuse_one_pixel, name))
        height, width = size or model.pretrained_cfg.get("input_size", (3, 224, 224))[1:]
        try:
            with _RandomOperations() as chance:
                output = model(torch.empty(2, 3, height, width))
        except Exception as error:  # whatever the model says of sizes
            raise ConfigError(
                f"encoder.model: '{config.model}' does not take images of {height}x{width}: "
                f"{_first_line(error)} (models of one size take encoder.image_size)"
            ) from error
    return output, chance.first


def _refuse_one_pixel(name: str, layer: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
    """Raise ValueError where a convolution with a stride meets maps of one pixel.

    Its gradient in bfloat16 is read from uninitialised memory (torch 2.14 on CPUs).
    """
    wide = max(layer.stride) > 1 and max(layer.kernel_size) > 1
    if wide and inputs[0].shape[2:] == (1, 1):
        raise ValueError(f"they are too small: {name} would halve maps of one pixel")


class _RandomOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the first operation that draws from one of torch's generators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.first: str | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.first = self.first or str(func)
        return func(*args, **(kwargs or {}))


def _create(config: TimmConfig) -> Any:
    import timm  # seconds to import

    if not timm.is_model(config.model):  # nor is a name on the hub, from which timm would download
        close = nearest(config.model, timm.list_models())
        raise ConfigError(f"encoder.model: '{config.model}' is no model of timm{close}")
    size: dict[str, Any] = {} if config.image_size is None else {"img_size": config.image_size}
    try:
        model = timm.create_model(config.model, pretrained=False, num_classes=0, **size)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        raise ConfigError(
            f"encoder.image_size: '{config.model}' is not built for one size of image; leave it out"
        ) from error
    except (AssertionError, RuntimeError, ValueError) as error:
        at_size = "" if config.image_size is None else f" for images of {config.image_size}"
        raise ConfigError(
            f"encoder.model: timm cannot build '{config.model}'{at_size}: {_first_line(error)}"
        ) from error
    for module in model.modules():
        _switch_off_chance(module)
    return model


def _switch_off_chance(module: nn.Module) -> None:
    if isinstance(module, _DropoutNd):
        module.p = 0.0
    for name in _RATES:
        if isinstance(getattr(module, name, None), float):
            setattr(module, name, 0.0)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
