"""A file of encoder weights, of whatever program, brought into an encoder."""

import pickle
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from alignctl.errors import CheckpointError, ConfigError
from alignctl.stand_ins import stand_in

# Under which the state dict may lie in a checkpoint, the first of them that is there.
_STATE_KEYS = ("state_dict", "model_state_dict", "MODEL_STATE", "model_state", "model", "encoder")
# In front of an encoder's own names, in any order.
_WRAPPERS = re.compile(r"((module|_orig_mod|model|network|encoder|net|backbone)\.)*")
# Parts of a model that sit on an encoder; ignored, unless the encoder has tensors of these names.
_HEADS = (
    "fc", "head", "heads", "head_dist", "classifier", "last_linear", "linear",
    "projector", "projection", "projection_head", "proj_head", "predictor", "objective",
)  # fmt: skip
_NUM_NAMED = 3  # of several tensors, so many are named


def load_encoder_weights(encoder: nn.Module, path: Path) -> None:
    """Replace all weights and statistics of an encoder by those in a file.

    The file holds a state dict, alone or inside a checkpoint, with the encoder's own names behind
    prefixes such as `module.` or `encoder.`. Classifiers and projectors in it are passed over;
    all else has to match, name by name and shape by shape.
    Raises ConfigError where there is no such file or it does not fit, CheckpointError where it
    cannot be read.
    """
    expected = encoder.state_dict()
    found = _without_heads(_tensors_in(path), expected)
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
    return ConfigError(f"encoder.weights: {path}: does not fit the encoder: {reason}")


def _some(words: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(words) - _NUM_NAMED} more" if len(words) > _NUM_NAMED else ""
    return ", ".join(words[:_NUM_NAMED]) + more


def _tensors_in(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, whatever lies around it."""
    if not path.is_file():
        raise ConfigError(f"encoder.weights: {path}: no such file")
    content = _read(path)
    while isinstance(content, Mapping):
        tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        inner = [content[key] for key in _STATE_KEYS if isinstance(content.get(key), Mapping)]
        if tensors and not inner:
            return tensors
        if not inner:
            break
        content = inner[0]
    keys = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    raise ConfigError(f"encoder.weights: {path}: holds no state dict, but {keys or 'nothing'}")


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = stand_in(path) or (
            "cannot be read, or holds more than tensors; "
            "a state dict saved alone, best as .safetensors, can be"
        )
        raise CheckpointError(f"encoder.weights: {path}: {reason}") from error
    except Exception as error:  # whatever a damaged file makes of the unpickler
        reason = str(error).partition("\n")[0] or type(error).__name__
        reason = stand_in(path) or f"cannot be read: {reason}"
        raise CheckpointError(f"encoder.weights: {path}: {reason}") from error


def _without_heads(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors under the encoder's names, with any others under the names they have."""
    prefix = _prefix(tensors, expected)
    found = {}
    for name, tensor in tensors.items():
        own = name.removeprefix(prefix) if name.startswith(prefix) else name
        if own in expected or _bare(name).partition(".")[0] not in _HEADS:
            found[own] = tensor
    return found


def _prefix(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What stands in front of most of the encoder's names: wrappers, or nothing."""
    counts = Counter(
        prefix for name in tensors for prefix in _prefixes(name) if name[len(prefix) :] in expected
    )
    return max(counts, key=lambda prefix: counts[prefix]) if counts else ""


def _prefixes(name: str) -> list[str]:
    """Every leading run of wrappers in a name, the empty one included."""
    wrapped = len(name) - len(_bare(name))
    return [""] + [name[: i + 1] for i in range(wrapped) if name[i] == "."]


def _bare(name: str) -> str:
    """A name without the wrappers in front of it."""
    return _WRAPPERS.sub("", name, count=1)
