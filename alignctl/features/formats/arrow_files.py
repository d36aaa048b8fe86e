"""Tables of Arrow: .parquet, .feather and .arrow files, a group of rows at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignctl.errors import ConfigError
from alignctl.features.formats.array import Array, Part
from alignctl.features.formats.columns import Column, Kind
from alignctl.features.formats.tables import INDEX


class _Groups(Protocol):
    """An open file, whose rows lie in groups."""

    schema: pa.Schema

    def counts(self) -> tuple[int, ...]:
        """The number of rows in each group."""

    def read(self, group: int, names: list[str]) -> pa.Table:
        """Some columns of a group."""


class _ParquetGroups:
    def __init__(self, file: pq.ParquetFile) -> None:
        self._file, self.schema = file, file.schema_arrow

    def counts(self) -> tuple[int, ...]:
        about = self._file.metadata
        return tuple(about.row_group(group).num_rows for group in range(about.num_row_groups))

    def read(self, group: int, names: list[str]) -> pa.Table:
        return self._file.read_row_group(group, names)


class _BatchGroups:
    """Record batches, each of which is decoded when it is asked for."""

    def __init__(
        self, schema: pa.Schema, count: int, batch: Callable[[int], pa.RecordBatch]
    ) -> None:
        self.schema, self._count, self._batch = schema, count, batch

    def counts(self) -> tuple[int, ...]:
        return tuple(self._batch(group).num_rows for group in range(self._count))

    def read(self, group: int, names: list[str]) -> pa.Table:
        return pa.Table.from_batches([self._batch(group)]).select(names)


@contextmanager
def _opened(path: Path) -> Iterator[_Groups]:
    if path.suffix.lower() == ".parquet":
        with pq.ParquetFile(path) as file:
            yield _ParquetGroups(file)
        return
    with pa.memory_map(str(path)) as source:
        yield _batches_of(source)


def _batches_of(source: pa.MemoryMappedFile) -> _BatchGroups:
    try:
        file = pa.ipc.open_file(source)
    except pa.ArrowInvalid:  # the datasets library writes streams
        source.seek(0)
        stream = pa.ipc.open_stream(source)
        batches = list(stream)
        return _BatchGroups(stream.schema, len(batches), batches.__getitem__)
    return _BatchGroups(file.schema, file.num_record_batches, file.get_batch)


def arrow_table(path: Path) -> "ArrowTable":
    """The columns of a file, of which no value is read yet."""
    with _opened(path) as groups:
        about = groups.schema.pandas_metadata or {}
        index = about.get("index_columns", [])
        labels = [
            (str(one["name"] or INDEX), range(one["start"], one["stop"], one["step"]))
            for one in index
            if isinstance(one, dict) and one.get("kind") == "range"
        ]
        return ArrowTable(
            path,
            groups.counts(),
            tuple(groups.schema),
            index=tuple(name for name in index if isinstance(name, str)),
            row_labels=labels[0] if labels else None,
        )


@dataclass(frozen=True)
class ArrowTable:
    """A table whose columns are read when they are asked for."""

    path: Path
    counts: tuple[int, ...]
    """The number of rows in each group."""
    fields: tuple[pa.Field, ...]
    index: tuple[str, ...]
    row_labels: tuple[str, range] | None
    note: str = ""

    @property
    def num_rows(self) -> int:
        """Rows of each column."""
        return sum(self.counts)

    @property
    def columns(self) -> tuple[Column, ...]:
        """All of them, in the file's order."""
        return tuple(
            Column(one.name, _kind(one.type), str(one.type), is_index=one.name in self.index)
            for one in self.fields
        )

    def values(self, names: Sequence[str]) -> Iterator[NDArray[Any]]:
        """All entries of each of these columns, which hold numbers or text."""
        with _opened(self.path) as groups:
            for name in names:
                parts = [groups.read(g, [name]).column(0) for g in range(len(self.counts))]
                found = pa.chunked_array([chunk for part in parts for chunk in part.chunks])
                yield _plain(found).to_numpy()

    def matrix(self, names: tuple[str, ...]) -> Array:
        """Columns of numbers, or one column of lists, as wide as its first row."""
        columns = tuple(one for one in self.fields if one.name in names)
        width = len(columns)
        if columns and not _is_number(columns[0].type):
            width = self._width(columns[0].name)
        rows = _Rows(self.path, self.counts, columns, width)
        return Array((self.num_rows, width), "numbers", True, rows.read)

    def _width(self, name: str) -> int:
        with _opened(self.path) as groups:
            for group, num_rows in enumerate(self.counts):
                if num_rows:
                    return len(groups.read(group, [name]).column(0)[0].as_py() or ())
        return 0


def _kind(kind: pa.DataType) -> Kind:
    if pa.types.is_floating(kind):
        return "float"
    if _is_number(kind):
        return "integer"
    if _is_number(_entry_type(kind)):
        return "list"
    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = pa.types.is_string, pa.types.is_large_string, pa.types.is_temporal, pa.types.is_decimal
    return "text" if _is_bytes(held) or any(test(held) for test in tests) else "other"


def _plain(found: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers and text as they are; bytes, such as those of a UUID, and decimal numbers as text."""
    if pa.types.is_dictionary(found.type):
        found = found.cast(found.type.value_type)
    if _is_bytes(found.type):
        return pa.chunked_array([[one and one.hex() for one in found.to_pylist()]], pa.string())
    return found.cast(pa.string()) if pa.types.is_decimal(found.type) else found


def _is_bytes(kind: pa.DataType) -> bool:
    tests = pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary
    return any(test(kind) for test in tests)


def _is_number(kind: pa.DataType) -> bool:
    tests = pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean
    return any(test(kind) for test in tests)


def _entry_type(kind: pa.DataType) -> pa.DataType:
    """The type of a list's entries; any other type itself."""
    tests = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    return kind.value_type if any(test(kind) for test in tests) else kind


@dataclass(frozen=True)
class _Rows:
    """The numbers of several columns side by side, or the lists of one column."""

    path: Path
    counts: tuple[int, ...]
    columns: tuple[pa.Field, ...]
    width: int
    _last: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)
    """The group read last: the next block mostly begins where this one ended."""
    _all: list[Tensor] = field(default_factory=list, repr=False, compare=False)
    """Every row, once rows were asked for in another order: they lie in all groups."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """One for all columns, and so for all blocks."""
        kinds = {_entry_type(column.type) for column in self.columns}
        names = [kind.to_pandas_dtype() if pa.types.is_floating(kind) else "f8" for kind in kinds]
        return np.result_type(*names)

    def read(self, part: Part) -> Tensor:
        if isinstance(part, slice):
            return self._block(part)
        if not self._all:
            self._all.append(self._block(slice(0, sum(self.counts))))
        return self._all[0][torch.from_numpy(part)]

    def _block(self, part: slice) -> Tensor:
        num_rows = max(0, part.stop - part.start)
        found = torch.from_numpy(np.empty((num_rows, self.width), self.dtype))
        with _opened(self.path) as groups:
            first = 0
            for group, count in enumerate(self.counts):
                low, high = max(part.start, first), min(part.stop, first + count)
                if low < high:
                    rows = self._group(groups, group, first)
                    found[low - part.start : high - part.start] = rows[low - first : high - first]
                first += count
        return found

    def _group(self, groups: _Groups, group: int, first: int) -> Tensor:
        if group not in self._last:
            self._last.clear()
            table = groups.read(group, [column.name for column in self.columns])
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
