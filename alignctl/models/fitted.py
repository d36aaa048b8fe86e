"""Trained networks, with the weights of a model in them."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from alignctl.config import StudyConfig
from alignctl.config.validation import nearest
from alignctl.encoders import Network, empty_network
from alignctl.encoders.activations import activation_names, layer_of
from alignctl.errors import CheckpointError, ConfigError
from alignctl.models.misfit import misfit
from alignctl.models.model_source import ModelSource
from alignctl.models.weights import ENCODER, shared_weights

_NUM_NAMED = 5  # of all layers, so many are named
_USUAL_SIZE = 32


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


def layers_asked(study: StudyConfig, words: Sequence[str]) -> tuple[str, ...]:
    """The representations that words name, each once: `h`, `g`, layers, and patterns of layers.

    A pattern such as `blocks.*.attn.qkv` takes all layers of the encoder that give one tensor and
    fit it, in the order in which they compute. ConfigError, with the nearest match, for what names
    no layer.
    """
    if set(words) <= {"h", "g"}:
        return tuple(dict.fromkeys(words))
    network = empty_network(study)
    found: dict[str, None] = {}
    for word in words:
        if any(mark in word for mark in "*?["):
            found |= dict.fromkeys(_fitting(study, network, word))
        else:
            _refuse_unknown_layer(network, word)
            found[word] = None
    return tuple(found)


def _fitting(study: StudyConfig, network: Network, pattern: str) -> list[str]:
    names = activation_names(network.encoder, **_image_size(study))
    found = [
        name
        for name in names
        if fnmatchcase(name, pattern) or fnmatchcase(f"{ENCODER}{name}", pattern)
    ]
    if not found:
        listed = ", ".join(names[:_NUM_NAMED])
        raise ConfigError(f"--representation: no layer fits '{pattern}' ({listed}, ...)")
    return found


def _image_size(study: StudyConfig) -> dict[str, int]:
    """A size of images that the encoder takes; its layers have the same names at all sizes."""
    for config in (study.encoder, study.dataset):
        size = getattr(config, "image_size", None)
        if isinstance(size, int):
            return {"height": size, "width": size}
    return {"height": _USUAL_SIZE, "width": _USUAL_SIZE}


def _refuse_unknown_layer(network: Network, word: str) -> None:
    if word in ("h", "g") or layer_of(network, word) is not None:
        return
    layers = [name for name, _ in network.named_modules() if name]
    outer = [name for name in layers if name.count(".") < 2]
    listed = ", ".join(["h", "g", *outer])
    raise ConfigError(
        f"--representation: '{word}' is no layer{nearest(word, layers)} ({listed}, ...)"
    )
