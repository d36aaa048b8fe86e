"""Encoders, the projector, and the network they form.

A new family is one file here, one line in ENCODERS, and one member of the config's union.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from alignctl.config import StudyConfig
from alignctl.config.models import ResNetConfig
from alignctl.config.training import Precision
from alignctl.encoders.network import Network, Representations
from alignctl.encoders.projector import Projector
from alignctl.randomness import derive_seed

__all__ = ["ENCODERS", "Network", "Representations", "build_network"]


def _resnet(config: ResNetConfig) -> nn.Module:
    from alignctl.encoders.resnet import ResNet  # torchvision takes more than a second to import

    return ResNet(config)


# Each takes its config and gives a module with an attribute `feature_dim`.
ENCODERS: dict[str, Callable[[Any], nn.Module]] = {
    "resnet18": _resnet,
    "resnet34": _resnet,
    "resnet50": _resnet,
}


def build_network(study: StudyConfig, *, precision: Precision | None = None) -> Network:
    """The study's network at its initial weights, a function of the config and seed alone.

    precision: of encoder and projector; the study's when not given.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(study.seed, "network"))
        encoder = ENCODERS[study.encoder.name](study.encoder)
        feature_dim = encoder.feature_dim
        assert isinstance(feature_dim, int)
        network = Network(
            encoder,
            Projector(feature_dim, study.projector),
            bfloat16=(precision or study.training.precision) == "bfloat16",
            channels_last=study.training.channels_last,
        )
    if study.training.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return network
