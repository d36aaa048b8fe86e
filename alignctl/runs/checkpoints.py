"""Weights as safetensors, what resuming needs beside them, and digests of both."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from alignctl.errors import CheckpointError
from alignctl.runs.atomic import write_atomically
from alignctl.runs.directory import RunDirectory, epochs_in


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write named tensors, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    _write(path, lambda beside: save_file(tensors, beside))


def load_weights(path: Path) -> dict[str, Tensor]:
    """The named tensors of a safetensors file; CheckpointError where it cannot be read."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error


def save_state(run: RunDirectory, epoch: int, objective: str, state: Mapping[str, Any]) -> None:
    """Keep what one objective needs to go on after this epoch."""
    path = _state_folder(run, epoch) / f"{objective}.pt"
    _write(path, lambda beside: torch.save(dict(state), beside))


def load_state(run: RunDirectory, epoch: int, objective: str) -> dict[str, Any]:
    """What `save_state` kept, tensors and plain values only; CheckpointError when damaged."""
    path = _state_folder(run, epoch) / f"{objective}.pt"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged zip or pickle fails in a dozen ways
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: cannot be read: {reason}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds no training state")
    return state


def resumable_epoch(run: RunDirectory, objectives: tuple[str, ...], *, at_most: int) -> int | None:
    """The last epoch up to `at_most` for which every objective's state is there."""
    for epoch in reversed(epochs_in(run.state.glob("epoch_*"))):
        if epoch <= at_most and all(
            (_state_folder(run, epoch) / f"{name}.pt").is_file() for name in objectives
        ):
            return epoch
    return None


def drop_states_before(run: RunDirectory, epoch: int) -> None:
    """Remove the states that a newer complete one replaces."""
    for older in epochs_in(run.state.glob("epoch_*")):
        if older < epoch:
            shutil.rmtree(_state_folder(run, older), ignore_errors=True)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _write(path: Path, save: Callable[[Path], object]) -> None:
    """Write atomically; a full disk is a CheckpointError, whatever the library makes of it."""

    def attempt(beside: Path) -> None:
        try:
            save(beside)
        except (SafetensorError, RuntimeError) as error:
            raise OSError(str(error).partition("\n")[0]) from error

    write_atomically(path, attempt)


def _state_folder(run: RunDirectory, epoch: int) -> Path:
    return run.state / f"epoch_{epoch:04d}"
