"""What a file says of its arrays before any row is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Part = slice | NDArray[np.int64]
"""Rows: a slice without step that lies in the array, or their numbers in any order."""

_KEPT = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Array:
    """What a file says of one of its arrays, before any row is read."""

    shape: tuple[int, ...]
    holds: str
    is_real: bool
    read: Callable[[Part], Tensor]
    values: Callable[[], NDArray[Any]] | None = None
    """All entries of a vector of text or numbers, which may be ids; None of anything else."""
    note: str = ""
    """How rows were put together, where that is a guess."""


Arrays = Mapping[str | None, Array]
"""The arrays of a file by their keys; None is the only key of a file that takes none."""


def is_kept(dtype: torch.dtype) -> bool:
    """Whether rows of this dtype are given as they are; others become float64."""
    return dtype in _KEPT


def owned(tensor: Tensor) -> Tensor:
    """A copy: what it was cut from may be a map of the whole file, and is let go of."""
    dtype = tensor.dtype if is_kept(tensor.dtype) else torch.float64
    return tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)


def from_numpy(values: NDArray[Any]) -> Tensor:
    """A copy as a tensor: floating-point numbers as they are, others as float64."""
    # astype copies: torch warns of read-only memory, and knows only the machine's byte order
    dtype = values.dtype.newbyteorder("=") if values.dtype.kind == "f" else np.dtype(np.float64)
    return torch.from_numpy(values.astype(dtype, order="C"))


def numpy_array(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    read: Callable[[Part], Tensor],
    values: Callable[[], NDArray[Any]] | None = None,
) -> Array:
    """An array of numpy, by its header; `values` is passed on where it is a vector."""
    holds = {"U": "text", "S": "text", "O": "Python objects"}.get(dtype.kind, dtype.name)
    return Array(shape, holds, is_real_number(dtype), read, values if len(shape) == 1 else None)


def is_real_number(dtype: np.dtype[Any]) -> bool:
    """Whether torch has numbers that hold this dtype's: no long double, nothing complex."""
    return dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize <= 8)
