"""Trained networks, with the weights of a model in them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from alignctl.config import StudyConfig
from alignctl.config.validation import nearest
from alignctl.encoders import Network, empty_network
from alignctl.encoders.activations import layer_of
from alignctl.errors import CheckpointError, ConfigError
from alignctl.models.misfit import misfit
from alignctl.models.model_source import ModelSource
from alignctl.models.weights import shared_weights


def load_network(source: ModelSource, objective: str, epoch: int, device: torch.device) -> Network:
    """One objective's network after one epoch, in float32 and evaluation mode."""
    study = source.config
    weights = shared_weights(source.load(objective, epoch))
    network = fitted_network(study, weights, source.file(objective, epoch))
    channels_last = study.training.channels_last
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(device=device, memory_format=memory_format).eval()  # type: ignore[call-overload,no-any-return]


def fitted_network(study: StudyConfig, weights: Mapping[str, Tensor], path: Path) -> Network:
    """The study's network with the weights of a file, in float32.

    CheckpointError names the file, the first tensor that does not fit, and what to change.
    """
    network = empty_network(study, precision="float32")
    fault = misfit(network.state_dict(), weights, study)
    if fault is not None:
        raise CheckpointError(f"{path}: does not fit the run's config: {fault}")
    network.load_state_dict(weights, assign=True)
    return network


def refuse_unknown_layer(study: StudyConfig, representation: str) -> None:
    """Raise ConfigError, with the nearest match, unless it is `h`, `g` or one of the layers."""
    if representation in ("h", "g"):
        return
    network = empty_network(study)
    layers = [name for name, _ in network.named_modules() if name]
    if layer_of(network, representation) is None:
        outer = [name for name in layers if name.count(".") < 2]
        close = nearest(representation, layers)
        listed = ", ".join(["h", "g", *outer])
        raise ConfigError(
            f"--representation: '{representation}' is no layer{close} ({listed}, ...)"
        )
