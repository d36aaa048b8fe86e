"""Trained networks, with the weights of a model in them."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from alignctl.config import StudyConfig
from alignctl.config.validation import nearest
from alignctl.encoders import Network, empty_network
from alignctl.encoders.activations import activation_names
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
    fit it, in the order in which they compute. A layer of the encoder may be named with or without
    `encoder.`; here it has it, as in tables of every version. ConfigError, with the nearest match,
    for what names no layer.
    """
    if set(words) <= {"h", "g"}:
        return tuple(dict.fromkeys(words))
    network = empty_network(study)
    found: dict[str, None] = {}
    for word in words:
        if any(mark in word for mark in "*?["):
            found |= dict.fromkeys(_fitting(study, network, word))
        else:
            found[_full_name(network, word)] = None
    return tuple(found)


def _fitting(study: StudyConfig, network: Network, pattern: str) -> list[str]:
    names = _layers(study, network)
    found = [
        f"{ENCODER}{name}"
        for name in names
        if fnmatchcase(name, pattern) or fnmatchcase(f"{ENCODER}{name}", pattern)
    ]
    if not found:
        listed = ", ".join(names[:_NUM_NAMED])
        raise ConfigError(f"--representation: no layer fits '{pattern}' ({listed}, ...)")
    return found


def _layers(study: StudyConfig, network: Network) -> list[str]:
    """All layers of the encoder that do something and give one tensor."""
    size = _image_size(study, network.encoder)
    try:
        names = activation_names(network.encoder, height=size, width=size)
    except Exception as error:  # whatever a model says of sizes
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"--representation: the encoder's layers cannot be listed for images of {size}x{size}: "
            f"{reason}; name them one by one"
        ) from error
    layers = dict(network.encoder.named_modules())
    return [name for name in names if not isinstance(layers[name], nn.Identity)]


def _image_size(study: StudyConfig, encoder: nn.Module) -> int:
    """A size of images that the encoder should take; names of layers depend on none."""
    for config in (study.encoder, study.dataset):
        size = getattr(config, "image_size", None)
        if isinstance(size, int):
            return size
    sizes = [
        getattr(module, "pretrained_cfg", {}).get("input_size") for module in encoder.modules()
    ]
    return next((size[-1] for size in sizes if size), _USUAL_SIZE)


def _full_name(network: Network, word: str) -> str:
    layers = [name for name, _ in network.named_modules() if name]
    for name in (word, f"{ENCODER}{word}"):
        if name in ("h", "g", *layers):
            return name
    outer = [name for name in layers if name.count(".") < 2]
    listed = ", ".join(["h", "g", *outer])
    raise ConfigError(
        f"--representation: '{word}' is no layer{nearest(word, layers)} ({listed}, ...)"
    )
