"""Feature matrices in plain files, read in blocks of rows so that a file may exceed memory."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alignctl.config.base import expanded
from alignctl.config.validation import nearest, unknown
from alignctl.errors import ConfigError, out_of_memory
from alignctl.features.formats import FORMATS
from alignctl.features.formats.array import Array, Arrays, Part
from alignctl.features.formats.choice import Choice, listed
from alignctl.features.formats.conversions import converted_by, kind_of
from alignctl.features.formats.ids import Ids
from alignctl.features.formats.keyed_ids import ids_beside, unread_ids
from alignctl.features.formats.tables import INDEX, Table, contents_of, has_index
from alignctl.metrics.sums.rows import NotFiniteError


@dataclass(frozen=True)
class FeatureFile:
    """A matrix in a file: one row per image, one column per feature."""

    path: Path
    num_rows: int
    num_columns: int
    name: str
    """The file, and the key where it takes one: `A.npz:features`."""
    _read: Callable[[Part], Tensor] = field(repr=False)
    columns: tuple[str, ...] = ()
    """The columns of a table that are its features; none where the file has no such columns."""
    ids: tuple[Ids, ...] = field(default=(), repr=False)
    """What may be the ids of its rows, the likeliest first."""
    left_out: tuple[str, ...] = ()
    """Columns of the table that are neither."""
    others: tuple[str, ...] = ()
    """Names of all columns or keys that could hold ids."""
    note: str = ""
    """How the file was read, where that is a guess."""

    def rows(self, part: slice) -> Tensor:
        """The rows of a slice without step: (m, d) on the CPU, in memory of their own.

        float16, bfloat16, float32 and float64 as in the file; whole numbers and booleans as
        float64. Raises ConfigError if the file cannot be read any more, or lacks a value.
        """
        start, stop, step = part.indices(self.num_rows)
        assert step == 1, "blocks of rows are contiguous"
        with _readable(self.path):
            return self._read(slice(start, max(start, stop)))

    def gather(self, numbers: NDArray[np.int64]) -> Tensor:
        """The rows of these numbers, in their order: (m, d), otherwise as `rows`.

        Files of text, compressed ones and tables are then held in memory; of others these rows
        are read.
        """
        with _readable(self.path):
            return self._read(numbers)


def open_features(text: str, choice: Choice | None = None) -> FeatureFile:
    """The matrix that `FILE` or `FILE:KEY` names; its numbers are read later, by `rows`.

    The key names one of several arrays; it may be left out where only one is two-dimensional.
    choice: which columns are features, and which hold ids. Raises ConfigError if there is no such
    file or key, if the file is damaged, if a column may be a feature or an id, or if the array is
    not a matrix of real numbers with at least one row and one column.
    """
    choice = choice or Choice()
    path, key = _split(text)
    with _readable(path):
        found = _opener(path)(path)
        if isinstance(found, Mapping):
            return _of_arrays(path, found, key, choice)
        return _of_table(found, key, choice)


def _opener(path: Path) -> Callable[[Path], Arrays | Table]:
    suffix, kind = path.suffix.lower(), kind_of(path)
    if kind is not None:
        raise converted_by(path, kind, f"a {suffix} file")
    if suffix not in FORMATS:
        saved = f"numpy.save('{path.with_suffix('.npy')}', array) makes a file that is read"
        raise ConfigError(f"{path}: {unknown('a kind of feature file', suffix, FORMATS)}; {saved}")
    return FORMATS[suffix]


def _of_arrays(path: Path, arrays: Arrays, key: str | None, choice: Choice) -> FeatureFile:
    """A matrix among arrays, and the ids beside it."""
    key = _chosen(path, arrays, key)
    name, array = _matrix(path, arrays, key)
    others = tuple(str(other) for other in arrays if other not in (None, key))
    ids = ids_beside(path, arrays, key, choice)
    num_rows, num_columns = array.shape
    note = array.note or unread_ids(arrays, key, choice)
    return FeatureFile(
        path, num_rows, num_columns, name, array.read, ids=ids, others=others, note=note
    )


def _of_table(table: Table, key: str | None, choice: Choice) -> FeatureFile:
    """Columns that are features, and the ids in others."""
    contents = contents_of(table, choice)
    key = _chosen(table.path, contents.arrays, key)
    name, array = _matrix(table.path, contents.arrays, key)
    num_rows, num_columns = array.shape
    return FeatureFile(
        table.path,
        num_rows,
        num_columns,
        name,
        array.read,
        columns=contents.names[key],
        ids=contents.ids,
        left_out=contents.left_out,
        others=(*(column.name for column in table.columns), *([INDEX] if has_index(table) else [])),
        note=table.note,
    )


def _matrix(path: Path, arrays: Arrays, key: str | None) -> tuple[str, Array]:
    """The array and what it is called; ConfigError unless it is a matrix of numbers."""
    name = str(path) if key is None else f"{path}:{key}"
    _refuse_unless_matrix(name, arrays[key])
    return name, arrays[key]


def refuse_not_finite(name: str, rows: Tensor, place: int | NDArray[np.int64]) -> None:
    """Raise NotFiniteError for the first NaN or infinity, by its place in the file.

    rows: (m, d). place: the number in the file of the first row, or (m,) those of all.
    """
    for row, column in rows.isfinite().logical_not().nonzero()[:1].tolist():
        value = rows[row, column].item()
        number = place + row if isinstance(place, int) else place[row]
        raise NotFiniteError(f"{name}, row {number}, column {column}: {value}")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Says in one line what a library says in a traceback."""
    try:
        yield
    except (ConfigError, MemoryError):
        raise
    except Exception as error:  # a damaged zip, pickle or header fails in a dozen ways
        if out_of_memory(error) is not None:
            raise
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise ConfigError(f"{path}: cannot be read: {reason or type(error).__name__}") from error


def _split(text: str) -> tuple[Path, str | None]:
    """The file and its key; a colon belongs to the file's name where such a file exists."""
    colons = [place for place, letter in enumerate(text) if letter == ":"]
    with _readable(Path(text)):
        for end in (len(text), *reversed(colons)):
            path = expanded(text[:end])
            if path.is_file():
                return path, text[end + 1 :] if end < len(text) else None
        head = Path(text.rpartition(":")[0])
        path = expanded(head if head.suffix.lower() in FORMATS else text)
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; want a file ({', '.join(sorted(FORMATS))})")
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()  # a loop of links is an error of its own
            raise ConfigError(f"{path}: is a pipe or a device; want a file")
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        names = [other.name for other in beside if other.suffix.lower() in FORMATS]
    raise ConfigError(f"{path}: there is no such file{nearest(path.name, names)}")


def _chosen(path: Path, arrays: Arrays, key: str | None) -> str | None:
    """The key of the array that is meant."""
    if key is not None and set(arrays) == {None}:
        raise ConfigError(f"{path}: holds one matrix and takes no key, not '{key}'")
    keys = [name for name in arrays if name is not None]
    if key is not None and key not in arrays:
        raise ConfigError(
            f"{path}: '{key}' is not a key{nearest(key, keys)} ({listed(sorted(keys))})"
        )
    if key is not None or None in arrays:
        return key
    matrices = [name for name in keys if arrays[name].is_real and len(arrays[name].shape) == 2]
    if len(matrices) == 1 or len(keys) == 1:
        return (matrices or keys)[0]
    if matrices:
        shown = listed(sorted(matrices))
        raise ConfigError(
            f"{path}: holds {len(matrices)} matrices; name one as {path}:KEY ({shown})"
        )
    held = listed(sorted(f"{name}: {arrays[name].holds} {arrays[name].shape}" for name in keys))
    raise ConfigError(f"{path}: holds no matrix; want (images, features) ({held or 'no arrays'})")


def _refuse_unless_matrix(name: str, array: Array) -> None:
    if not array.is_real:
        raise ConfigError(f"{name}: holds {array.holds}; want floating-point or whole numbers")
    if len(array.shape) != 2:
        hint = ": flatten or pool the rest" if len(array.shape) > 2 else ""
        raise ConfigError(f"{name}: shape {array.shape}; want (images, features){hint}")
    if min(array.shape) < 1:
        raise ConfigError(f"{name}: shape {array.shape}; want at least one row and one column")


@dataclass(frozen=True)
class CheckedFeatures:
    """A file whose rows are refused where a number is missing."""

    file: FeatureFile
    name: str
    """What the file is called in errors."""
    order: NDArray[np.int64] | None = None
    """(n,) the file's row numbers in the order in which rows are given; None for its own."""

    @property
    def num_rows(self) -> int:
        """Images."""
        return self.file.num_rows

    @property
    def num_columns(self) -> int:
        """Features of an image."""
        return self.file.num_columns

    def rows(self, part: slice) -> Tensor:
        """These rows; ValueError, naming row and column, for a NaN or an infinity."""
        if self.order is None:
            rows = self.file.rows(part)
            refuse_not_finite(self.name, rows, part.indices(self.num_rows)[0])
            return rows
        numbers = self.order[part]
        rows = self.file.gather(numbers)
        refuse_not_finite(self.name, rows, numbers)
        return rows
