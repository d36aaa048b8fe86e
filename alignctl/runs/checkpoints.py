"""Weights as safetensors, and the digests by which files and tensors are known again."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from alignctl.errors import CheckpointError
from alignctl.runs.atomic import write_atomically


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> str:
    """Write named tensors, atomically; the SHA-256 of the file."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    return write_tensors(path, lambda beside: save_file(tensors, beside))


def load_weights(path: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """The named tensors of a safetensors file; CheckpointError where it cannot be read.

    sha256: of the file as it was written; CheckpointError where the file has changed since.
    """
    try:
        if sha256 is not None and file_digest(path) != sha256:
            raise CheckpointError(f"{path}: damaged: it is not the file that was written")
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error


def write_tensors(path: Path, save: Callable[[Path], object]) -> str:
    """Let `save` fill a file, atomically; its SHA-256.

    A full disk is a CheckpointError, whichever error the library raises.
    """
    digests = []

    def attempt(beside: Path) -> None:
        try:
            save(beside)
        except (SafetensorError, RuntimeError) as error:
            raise OSError(str(error).partition("\n")[0]) from error
        digests.append(file_digest(beside))

    write_atomically(path, attempt)
    return digests[0]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            total.update(block)
    return total.hexdigest()


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
