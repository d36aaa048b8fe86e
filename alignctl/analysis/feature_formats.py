"""How each kind of file gives a matrix a block of rows at a time."""

import math
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from alignctl.errors import ConfigError

_KEPT = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SAFETENSORS_REAL = re.compile(r"BOOL|BF16|F(16|32|64)|[IU](8|16|32|64)")


@dataclass(frozen=True)
class Array:
    """What a file says of one of its arrays, before any row is read."""

    shape: tuple[int, ...]
    holds: str
    is_real: bool
    read: Callable[[slice], Tensor]


Arrays = Mapping[str | None, Array]
"""The arrays of a file by their keys; None is the only key of a file that takes none."""


def _owned(tensor: Tensor) -> Tensor:
    """A copy: what it was cut from may be a map of the whole file, and is let go of."""
    dtype = tensor.dtype if tensor.dtype in _KEPT else torch.float64
    return tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)


class _NpyHeader(NamedTuple):
    shape: tuple[int, ...]
    by_column: bool
    dtype: np.dtype[Any]
    offset: int


def _npy(path: Path) -> Arrays:
    with path.open("rb") as file:
        header = _npy_header(file)
    numbers = math.prod(header.shape) * header.dtype.itemsize
    missing = header.offset + numbers - path.stat().st_size
    if missing > 0 and not header.dtype.hasobject:
        raise ValueError(f"{missing} bytes are missing at its end")
    return {None: _numpy_array(header, partial(_npy_rows, path, header))}


def _npy_header(file: IO[bytes]) -> _NpyHeader:
    # Version 3 differs from 2 in the names of fields, and arrays with fields are refused.
    first = np.lib.format.read_magic(file) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    return _NpyHeader(*read(file), file.tell())


def _npy_rows(path: Path, header: _NpyHeader, part: slice) -> Tensor:
    """Read, not mapped: a map of an array stored by column ends up resident as a whole."""
    num_rows, num_columns = header.shape
    shape = part.stop - part.start, num_columns

    def numbers(first: int, count: int) -> NDArray[Any]:
        offset = header.offset + first * header.dtype.itemsize
        return np.fromfile(path, header.dtype, count, offset=offset)

    if header.by_column:
        starts = range(part.start, num_rows * num_columns, num_rows)
        found = np.stack([numbers(start, shape[0]) for start in starts], axis=1)
    else:
        found = numbers(part.start * num_columns, math.prod(shape))
    return _from_numpy(found.reshape(shape))  # fails if the file has become shorter


def _npz(path: Path) -> Arrays:
    arrays: dict[str | None, Array] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as file:
                    header = _npy_header(file)
                read = partial(_npz_rows, path, member, [])
                arrays[member.removesuffix(".npy")] = _numpy_array(header, read)
    return arrays


def _npz_rows(path: Path, member: str, kept: list[NDArray[Any]], part: slice) -> Tensor:
    """Reads the whole member, once: a compressed one cannot be entered half-way."""
    if not kept:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            kept.append(np.lib.format.read_array(file, allow_pickle=False))
    return _from_numpy(kept[0][part])


def _numpy_array(header: _NpyHeader, read: Callable[[slice], Tensor]) -> Array:
    dtype = header.dtype
    is_real = dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize <= 8)
    holds = {"U": "text", "S": "text", "O": "Python objects"}.get(dtype.kind, dtype.name)
    return Array(header.shape, holds, is_real, read)


def _from_numpy(values: NDArray[Any]) -> Tensor:
    # astype copies: torch warns of read-only memory, and knows only the machine's byte order
    dtype = values.dtype.newbyteorder("=") if values.dtype.kind == "f" else np.dtype(np.float64)
    return torch.from_numpy(values.astype(dtype, order="C"))


def _torch(path: Path) -> Arrays:
    held = _load_torch(path)
    if isinstance(held, Tensor):
        return {None: _torch_array(path, None, held)}
    if isinstance(held, dict):
        return {str(key): _torch_array(path, key, value) for key, value in held.items()}
    kind = type(held).__name__
    raise ConfigError(f"{path}: holds {kind}; want a tensor, or a dict of tensors")


def _load_torch(path: Path) -> Any:
    with path.open("rb") as file:  # is_zipfile takes an unreadable path for no zip
        if not zipfile.is_zipfile(file):
            raise ValueError("cut short, or not written by torch.save of version 1.6 or newer")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f" ({found[1]})" if found else ""
        raise ConfigError(
            f"{path}: refused: it holds more than tensors{what}, and reading that could run code; "
            "want a tensor, or a dict of tensors"
        ) from error


def _torch_array(path: Path, key: Any, value: Any) -> Array:
    read = partial(_torch_rows, path, key)
    if not isinstance(value, Tensor):
        return Array((), f"{type(value).__name__}, not a tensor", False, read)
    holds = str(value.dtype).removeprefix("torch.")
    if value.is_meta or value.layout != torch.strided:
        return Array(tuple(value.shape), "a sparse tensor or one without data", False, read)
    is_odd = value.is_complex() or value.is_floating_point() or value.is_quantized
    return Array(tuple(value.shape), holds, value.dtype in _KEPT or not is_odd, read)


def _torch_rows(path: Path, key: Any, part: slice) -> Tensor:
    held = _load_torch(path)  # again for each block, so that no map of the file outlives it
    return _owned((held if isinstance(held, Tensor) else held[key])[part])


def _safetensors(path: Path) -> Arrays:
    arrays: dict[str | None, Array] = {}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (it is no mapping)
            found = file.get_slice(key)
            shape, dtype = tuple(found.get_shape()), found.get_dtype()
            is_real = _SAFETENSORS_REAL.fullmatch(dtype) is not None
            arrays[key] = Array(shape, dtype, is_real, partial(_safetensors_rows, path, key))
    return arrays


def _safetensors_rows(path: Path, key: str, part: slice) -> Tensor:
    with safe_open(path, framework="pt") as file:
        return _owned(file.get_slice(key)[part])


def _parquet(path: Path) -> Arrays:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        # pandas keeps row labels as a column like any other: they are no feature
        labels = (schema.pandas_metadata or {}).get("index_columns", [])
        columns = [column for column in schema if column.name not in labels]
        others = [column for column in columns if not _is_number(column.type)]
        lists = [column for column in others if _is_number(_entry_type(column.type))]
        if others and not lists:
            raise ConfigError(
                f"{path}, column '{others[0].name}': holds {others[0].type}; "
                "want numbers in every column, or a column of number lists"
            )
        chosen = [(column,) for column in lists] or [tuple(columns)]
        return {
            part[0].name if lists else None: _parquet_array(path, file, part) for part in chosen
        }


def _parquet_array(path: Path, file: pq.ParquetFile, columns: tuple[pa.Field, ...]) -> Array:
    """Columns of numbers, or one column of lists, as wide as its first row."""
    width = len(columns)
    if columns and not _is_number(columns[0].type):
        first = next(file.iter_batches(1, columns=[columns[0].name]), None)
        width = 0 if first is None else len(first.column(0)[0].as_py() or ())
    rows = _ParquetRows(path, columns, width)
    return Array((file.metadata.num_rows, width), "numbers", True, rows.read)


def _is_number(kind: pa.DataType) -> bool:
    tests = pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean
    return any(test(kind) for test in tests)


def _entry_type(kind: pa.DataType) -> pa.DataType:
    """The type of a list's entries; any other type itself."""
    tests = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    return kind.value_type if any(test(kind) for test in tests) else kind


@dataclass(frozen=True)
class _ParquetRows:
    """The numbers of several columns side by side, or the lists of one column."""

    path: Path
    columns: tuple[pa.Field, ...]
    width: int
    _last: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)
    """The row group read last: the next block mostly begins where this one ended."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """One for all columns, and so for all blocks."""
        kinds = {_entry_type(column.type) for column in self.columns}
        names = [kind.to_pandas_dtype() if pa.types.is_floating(kind) else "f8" for kind in kinds]
        return np.result_type(*names)

    def read(self, part: slice) -> Tensor:
        found = [torch.from_numpy(np.empty((0, self.width), self.dtype))]
        with pq.ParquetFile(self.path) as file:
            first = 0
            for group in range(file.num_row_groups):
                end = first + file.metadata.row_group(group).num_rows
                if max(part.start, first) < min(part.stop, end):
                    rows = self._group(file, group, first)
                    found.append(rows[max(part.start - first, 0) : part.stop - first])
                first = end
        return torch.cat(found)

    def _group(self, file: pq.ParquetFile, group: int, first: int) -> Tensor:
        if group not in self._last:
            self._last.clear()
            table = file.read_row_group(group, [column.name for column in self.columns])
            values = np.empty((len(table), self.width), self.dtype)
            for number, column in enumerate(table.columns):
                values[:, number :: len(self.columns)] = self._numbers(column, number, first)
            self._last[group] = torch.from_numpy(values)
        return self._last[group]

    def _numbers(self, column: pa.ChunkedArray, number: int, first: int) -> Any:
        """(n, 1) of a column of numbers, (n, width) of a column of lists."""
        num_rows, width = len(column), self.width // len(self.columns)
        where = f"column '{self.columns[number].name}'"
        if not _is_number(column.type):
            lengths = pc.list_value_length(column).fill_null(-1).to_numpy()
            for row in np.flatnonzero(lengths != width)[:1]:
                fault = f"want {width} numbers, as in row 0"
                raise ConfigError(f"{self.path}, row {first + row}, {where}: {fault}")
            column = pc.list_flatten(column)
        for place in np.flatnonzero(column.is_null())[:1]:
            raise ConfigError(f"{self.path}, row {first + place // width}, {where}: no value")
        return column.to_numpy().reshape(num_rows, width)


FORMATS: dict[str, Callable[[Path], Arrays]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
}
