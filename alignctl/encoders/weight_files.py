"""A file of encoder weights, of whatever program, brought into an encoder."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from alignctl.encoders.torchvision_names import with_timm_names
from alignctl.errors import CheckpointError, ConfigError
from alignctl.models.weights import own_encoder_weights
from alignctl.stand_ins import stand_in

# Keys of a checkpoint that may hold the state dict; the first that exists is taken.
_STATE_KEYS = ("state_dict", "model_state_dict", "MODEL_STATE", "model_state", "model", "encoder")
_KEY = "encoder.weights: "  # what messages begin with
_NUM_NAMED = 3  # of several tensors, so many are named


def load_encoder_weights(encoder: nn.Module, path: Path) -> None:
    """Replace all weights and statistics of an encoder by those in a file.

    The file holds a state dict, alone or inside a checkpoint, with the encoder's own names behind
    prefixes such as `module.` or `encoder.`; those of a vision transformer may be torchvision's.
    Classifiers and projectors in it are passed over; all else has to match, name by name and shape
    by shape.
    Raises ConfigError where there is no such file or it does not fit, CheckpointError where it
    cannot be read.
    """
    expected = encoder.state_dict()
    found = own_encoder_weights(with_timm_names(tensors_in(path, named=_KEY)), expected)
    misshaped = [
        f"{name} is {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if misshaped:
        raise _misfit(path, _some(misshaped))
    outcome = encoder.load_state_dict(found, strict=False)  # knows torch's older names as well
    problems = []
    if outcome.missing_keys:
        problems.append(f"it has no {_some(outcome.missing_keys)}")
    if outcome.unexpected_keys:
        problems.append(f"the encoder has no {_some(outcome.unexpected_keys)}")
    if problems:
        raise _misfit(path, "; ".join(problems))


def _misfit(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"{_KEY}{path}: does not fit the encoder: {reason}")


def _some(words: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(words) - _NUM_NAMED} more" if len(words) > _NUM_NAMED else ""
    return ", ".join(words[:_NUM_NAMED]) + more


def tensors_in(path: Path, *, named: str = "") -> dict[str, Tensor]:
    """The state dict in a file, whatever lies around it, on the CPU; nothing in it is executed.

    named: what the messages of errors begin with, in front of the path.
    Raises ConfigError where there is no such file or state dict, CheckpointError where it cannot be
    read.
    """
    if not path.is_file():
        raise ConfigError(f"{named}{path}: no such file")
    content = _read(path, named)
    while isinstance(content, Mapping):
        tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        inner = [content[key] for key in _STATE_KEYS if isinstance(content.get(key), Mapping)]
        if tensors and not inner:
            return tensors
        if not inner:
            break
        content = inner[0]
    keys = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    raise ConfigError(f"{named}{path}: holds no state dict, but {keys or 'nothing'}")


def _read(path: Path, named: str) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = stand_in(path) or (
            "cannot be read, or holds more than tensors; "
            "a state dict saved alone, best as .safetensors, can be"
        )
        raise CheckpointError(f"{named}{path}: {reason}") from error
    except Exception as error:  # whatever a damaged file makes of the unpickler
        reason = str(error).partition("\n")[0] or type(error).__name__
        reason = stand_in(path) or f"cannot be read: {reason}"
        raise CheckpointError(f"{named}{path}: {reason}") from error
