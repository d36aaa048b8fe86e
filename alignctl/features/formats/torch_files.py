"""Tensors in .pt, .pth and .safetensors files."""

import pickle
import re
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from alignctl.errors import ConfigError
from alignctl.features.formats.array import (
    Array,
    Arrays,
    Part,
    from_numpy,
    is_kept,
    is_real_number,
    numpy_array,
    owned,
)
from alignctl.features.formats.conversions import converted_by
from alignctl.features.formats.pickled_numpy import STAND_INS, PlainArray

_WANTED = "want a tensor, a list of batches, or a dict of tensors or numpy arrays"
_SAFETENSORS_REAL = re.compile(r"BOOL|BF16|F(16|32|64)|[IU](8|16|32|64)")
_SAFETENSORS_WHOLE = re.compile(r"[IU](8|16|32|64)")


def torch_arrays(path: Path) -> Arrays:
    """A tensor, the entries of a dict or of a list, and the batches of a list as one matrix."""
    file = _TorchFile(path)
    held = file.held()
    if isinstance(held, Tensor | np.ndarray):
        return {None: _array(file, None, held)}
    if isinstance(held, dict):
        return {str(key): _array(file, key, value) for key, value in held.items()}
    if isinstance(held, list | tuple) and held:
        entries: dict[str | None, Array] = {
            str(number): _array(file, number, value) for number, value in enumerate(held)
        }
        if _are_batches(held):
            return {None: _batches(file, None, held), **entries}
        _refuse_other_lists(path, held)
        return entries
    raise ConfigError(f"{path}: holds {type(held).__name__}; {_WANTED}")


class _TorchFile:
    """What a file holds: mapped anew at each reading, or kept where it holds numpy's arrays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: Any = None

    def held(self) -> Any:
        """Everything in the file; no map of it outlives what is returned."""
        if self._kept is not None:
            return self._kept
        with self.path.open("rb") as file:  # is_zipfile takes an unreadable path for no zip
            if not zipfile.is_zipfile(file):
                raise ValueError("cut short, or not written by torch.save of version 1.6 or newer")
        try:
            return self._load()
        except pickle.UnpicklingError as error:
            if "GLOBAL numpy." not in str(error):
                raise self._refusal(error) from error
        try:
            with torch.serialization.safe_globals(STAND_INS):
                self._kept = _without_stand_ins(self._load())
        except pickle.UnpicklingError as error:
            raise self._refusal(error) from error
        return self._kept

    def entry(self, key: Any) -> Any:
        """One value of a dict or list; everything where the key is None."""
        held = self.held()
        return held if key is None else held[key]

    def _load(self) -> Any:
        return torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)

    def _refusal(self, error: Exception) -> ConfigError:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f" ({found[1]})" if found else ""
        return ConfigError(
            f"{self.path}: refused: it holds more than tensors{what}, and reading that "
            f"could run code; {_WANTED}"
        )


def _refuse_other_lists(path: Path, held: Sequence[Any]) -> None:
    """ConfigError that shows how to convert a list of pairs, of dicts or of single rows."""
    if all(isinstance(entry, list | tuple) for entry in held):
        raise converted_by(path, "pairs", "a list of lists or tuples")
    if all(isinstance(entry, dict) for entry in held):
        raise converted_by(path, "dicts", "a list of dicts")
    if len(held) > 1 and all(isinstance(entry, Tensor) and entry.ndim == 1 for entry in held):
        raise converted_by(path, "vectors", "a list of single rows")


def _without_stand_ins(held: Any) -> Any:
    if isinstance(held, PlainArray):
        return held if held.array is None else held.array
    if isinstance(held, dict):
        return {key: _without_stand_ins(value) for key, value in held.items()}
    if isinstance(held, list | tuple):
        return [_without_stand_ins(value) for value in held]
    return held


def _array(file: _TorchFile, key: Any, value: Any) -> Array:
    read = partial(_rows, file, key)
    if isinstance(value, np.ndarray):
        return numpy_array(value.shape, value.dtype, read, partial(_values, file, key))
    if isinstance(value, list | tuple):
        return _array_of_list(file, key, value)
    if not isinstance(value, Tensor):
        is_array = isinstance(value, PlainArray)
        kind = "an array of neither numbers nor text" if is_array else type(value).__name__
        return Array((), kind if is_array else f"{kind}, not a tensor", False, read)
    holds = str(value.dtype).removeprefix("torch.")
    if value.is_meta or value.layout != torch.strided:
        return Array(tuple(value.shape), "a sparse tensor or one without data", False, read)
    values = partial(_values, file, key) if value.ndim == 1 and _is_real(value) else None
    return Array(tuple(value.shape), holds, _is_real(value), read, values)


def _rows(file: _TorchFile, key: Any, part: Part) -> Tensor:
    rows = file.entry(key)[part]
    return owned(rows) if isinstance(rows, Tensor) else from_numpy(rows)


def _values(file: _TorchFile, key: Any) -> NDArray[Any]:
    value = file.entry(key)
    if isinstance(value, list | tuple):
        vectors = [_numpy(entry) for entry in value if _is_vector(entry)]
        return np.concatenate(vectors) if vectors else np.array(value, object)
    return _numpy(value)


def _numpy(value: Any) -> NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    known = value.float() if value.dtype == torch.bfloat16 else value  # numpy has no bfloat16
    array: NDArray[Any] = known.detach().numpy().copy()
    return array


def _is_vector(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) and value.ndim == 1


def _array_of_list(file: _TorchFile, key: Any, value: Sequence[Any]) -> Array:
    """Batches of rows, or a vector: text, whole numbers, or batches of these."""
    if _are_batches(value):
        return _batches(file, key, value)
    if value and all(isinstance(entry, str | int) for entry in value):
        holds = "text" if any(isinstance(entry, str) for entry in value) else "whole numbers"
        return Array((len(value),), holds, False, _no_rows, partial(_values, file, key))
    if value and all(map(_is_vector, value)):
        count = sum(map(len, value))
        return Array((count,), "vectors", False, _no_rows, partial(_values, file, key))
    return Array((), "list, not a tensor", False, _no_rows)


def _no_rows(part: Part) -> Tensor:
    raise AssertionError("only matrices are read by rows")


def _are_batches(entries: Sequence[Any]) -> bool:
    """Whether all are matrices of real numbers with the same number of columns."""
    if not entries or not all(isinstance(entry, Tensor | np.ndarray) for entry in entries):
        return False
    if any(isinstance(entry, Tensor) and entry.layout != torch.strided for entry in entries):
        return False
    shapes = [tuple(entry.shape) for entry in entries]
    if any(len(shape) != 2 or shape[1] != shapes[0][1] for shape in shapes):
        return False
    return all(map(_is_real, entries))


def _is_real(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return is_real_number(value.dtype)
    is_odd = value.is_complex() or value.is_floating_point() or value.is_quantized
    return is_kept(value.dtype) or not is_odd


def _batches(file: _TorchFile, key: Any, entries: Sequence[Any]) -> Array:
    kinds = [_rows_dtype(entry) for entry in entries]
    dtype = kinds[0]
    for kind in kinds[1:]:
        dtype = torch.promote_types(dtype, kind)
    ends = np.cumsum([len(entry) for entry in entries])
    read = partial(_batch_rows, file, key, ends=ends, dtype=dtype)
    note = f"a list of {len(entries)} matrices, taken as batches of rows, one after another"
    shape = int(ends[-1]), int(entries[0].shape[1])
    return Array(shape, str(dtype), True, read, note=note if len(entries) > 1 else "")


def _rows_dtype(entry: Any) -> torch.dtype:
    rows = entry[:0]
    return (owned(rows) if isinstance(rows, Tensor) else from_numpy(rows)).dtype


def _batch_rows(
    file: _TorchFile, key: Any, part: Part, *, ends: NDArray[np.int64], dtype: torch.dtype
) -> Tensor:
    entries = file.entry(key)
    wanted = np.arange(part.start, part.stop) if isinstance(part, slice) else part
    found = torch.empty(len(wanted), entries[0].shape[1], dtype=dtype)
    batches = np.searchsorted(ends, wanted, side="right")
    for batch in np.unique(batches):
        places = np.flatnonzero(batches == batch)
        rows = entries[batch][wanted[places] - (ends[batch] - len(entries[batch]))]
        found[places] = (rows if isinstance(rows, Tensor) else from_numpy(rows)).to(dtype)
    return found


def safetensors_arrays(path: Path) -> Arrays:
    """The tensors of a .safetensors file."""
    arrays: dict[str | None, Array] = {}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (it is no mapping)
            found = file.get_slice(key)
            shape, dtype = tuple(found.get_shape()), found.get_dtype()
            is_real = _SAFETENSORS_REAL.fullmatch(dtype) is not None
            is_ids = len(shape) == 1 and _SAFETENSORS_WHOLE.fullmatch(dtype) is not None
            values = partial(_safetensors_values, path, key) if is_ids else None
            read = partial(_safetensors_rows, path, key)
            arrays[key] = Array(shape, dtype, is_real, read, values)
    return arrays


def _safetensors_rows(path: Path, key: str, part: Part) -> Tensor:
    with safe_open(path, framework="pt") as file:
        if isinstance(part, slice):
            return owned(file.get_slice(key)[part])
        return owned(file.get_tensor(key)[torch.from_numpy(part)])  # mapped: reads these rows


def _safetensors_values(path: Path, key: str) -> NDArray[Any]:
    with safe_open(path, framework="pt") as file:
        values: NDArray[Any] = file.get_tensor(key).numpy().copy()
    return values
