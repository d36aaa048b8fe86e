"""Encoders, the projector, and the network they form.

A new family is one file here, one line in ENCODERS, and one member of the config's union.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from alignctl.config import StudyConfig
from alignctl.config.encoder_configs import EncoderConfig, ResNetConfig, TimmConfig, ViTConfig
from alignctl.config.training_config import Precision
from alignctl.encoders.network import Network, Representations
from alignctl.encoders.projector import Projector
from alignctl.encoders.weight_files import load_encoder_weights
from alignctl.errors import ConfigError
from alignctl.randomness import derive_seed

__all__ = [
    "ENCODERS",
    "Network",
    "Representations",
    "build_network",
    "check_image_size",
    "empty_network",
]


def _resnet(config: ResNetConfig) -> nn.Module:
    from alignctl.encoders.resnet import ResNet  # torchvision takes more than a second to import

    return ResNet(config)


def _vit(config: ViTConfig) -> nn.Module:
    from alignctl.encoders.vit import ViT

    return ViT(config)


def _timm(config: TimmConfig) -> nn.Module:
    from alignctl.encoders.timm_models import build_timm_model

    return build_timm_model(config)


# Each takes its config and gives a module with an attribute `feature_dim`.
ENCODERS: dict[str, Callable[[Any], nn.Module]] = {
    "resnet18": _resnet,
    "resnet34": _resnet,
    "resnet50": _resnet,
    "resnet101": _resnet,
    "vit": _vit,
    "timm": _timm,
}


def build_network(study: StudyConfig) -> Network:
    """The study's network at its initial weights, a function of the config and seed alone.

    Where the config names a file of encoder weights, the encoder begins from these, and only the
    projector from random ones.
    Raises ConfigError or CheckpointError where that file is missing, damaged or does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(study.seed, "network"))
        network = _assemble(study, study.training.precision)
    if study.encoder.weights is not None:
        load_encoder_weights(network.encoder, study.encoder.weights)
    if study.training.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return network


def empty_network(study: StudyConfig, *, precision: Precision | None = None) -> Network:
    """The study's network before it has weights, for `load_state_dict(weights, assign=True)`.

    Made without the file of encoder weights that the study may have begun from.
    """
    with torch.device("meta"):
        return _assemble(study, precision or study.training.precision)


def check_image_size(config: EncoderConfig, height: int, width: int) -> None:
    """Raise ConfigError, in one line, where the encoder takes no images of this size."""
    expected = getattr(config, "image_size", None)
    if expected is not None and (height, width) != (expected, expected):
        raise ConfigError(f"encoder.image_size: {expected}, but the images are {height}x{width}")
    if isinstance(config, TimmConfig):
        from alignctl.encoders.timm_models import try_image_size

        try_image_size(config, height, width)


def _assemble(study: StudyConfig, precision: Precision) -> Network:
    encoder = ENCODERS[study.encoder.name](study.encoder)
    feature_dim = encoder.feature_dim
    assert isinstance(feature_dim, int)
    return Network(
        encoder,
        Projector(feature_dim, study.projector),
        bfloat16=precision == "bfloat16",
        channels_last=study.training.channels_last,
    )
