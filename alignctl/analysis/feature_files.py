"""Feature matrices in plain files, read in blocks of rows so that a file may exceed memory."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from alignctl.analysis.feature_formats import FORMATS, Array, Arrays
from alignctl.config.base import expanded
from alignctl.config.validation import nearest, unknown
from alignctl.errors import ConfigError

_NAMES_SHOWN = 12


@dataclass(frozen=True)
class FeatureFile:
    """A matrix in a file: one row per image, one column per feature."""

    path: Path
    num_rows: int
    num_columns: int
    name: str
    """The file, and the key where it takes one: `A.npz:features`."""
    _read: Callable[[slice], Tensor] = field(repr=False)

    def rows(self, part: slice) -> Tensor:
        """The rows of a slice without step: (m, d) on the CPU, in memory of their own.

        float16, bfloat16, float32 and float64 as in the file; whole numbers and booleans as
        float64. Raises ConfigError if the file cannot be read any more, or lacks a value.
        """
        start, stop, step = part.indices(self.num_rows)
        assert step == 1, "blocks of rows are contiguous"
        with _readable(self.path):
            return self._read(slice(start, max(start, stop)))


def open_features(text: str) -> FeatureFile:
    """The matrix that `FILE` or `FILE:KEY` names; its numbers are read later, by `rows`.

    The key names one of several arrays; it may be left out where only one is two-dimensional.
    Raises ConfigError if there is no such file or key, if the file is damaged, or if the array is
    not a matrix of real numbers with at least one row and one column.
    """
    path, key = _split(text)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ConfigError(f"{path}: {unknown('a kind of feature file', suffix, FORMATS)}")
    with _readable(path):
        arrays = FORMATS[suffix](path)
    key = _chosen(path, arrays, key)
    name = str(path) if key is None else f"{path}:{key}"
    _refuse_unless_matrix(name, arrays[key])
    num_rows, num_columns = arrays[key].shape
    return FeatureFile(path, num_rows, num_columns, name, arrays[key].read)


def refuse_not_finite(name: str, rows: Tensor, start: int) -> None:
    """Raise ValueError for the first NaN or infinity, by its place in the file.

    rows: (m, d), of which the first is row `start` of the file.
    """
    for row, column in rows.isfinite().logical_not().nonzero()[:1].tolist():
        value = rows[row, column].item()
        raise ValueError(f"{name}, row {start + row}, column {column}: {value}")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Says in one line what a library says in a traceback."""
    try:
        yield
    except (ConfigError, MemoryError):
        raise
    except Exception as error:  # a damaged zip, pickle or header fails in a dozen ways
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
    if key is not None and None in arrays:
        raise ConfigError(f"{path}: holds one matrix and takes no key, not '{key}'")
    keys = [name for name in arrays if name is not None]
    if key is not None and key not in arrays:
        raise ConfigError(f"{path}: '{key}' is not a key{nearest(key, keys)} ({_listed(keys)})")
    if key is not None or None in arrays:
        return key
    matrices = [name for name in keys if arrays[name].is_real and len(arrays[name].shape) == 2]
    if len(matrices) == 1 or len(keys) == 1:
        return (matrices or keys)[0]
    if matrices:
        raise ConfigError(
            f"{path}: holds {len(matrices)} matrices; name one as {path}:KEY ({_listed(matrices)})"
        )
    held = _listed(f"{name}: {arrays[name].holds} {arrays[name].shape}" for name in keys)
    raise ConfigError(f"{path}: holds no matrix; want (images, features) ({held or 'no arrays'})")


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    left = len(ordered) - _NAMES_SHOWN
    return ", ".join(ordered[:_NAMES_SHOWN]) + (f" and {left} more" if left > 0 else "")


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
        rows = self.file.rows(part)
        refuse_not_finite(self.name, rows, part.indices(self.num_rows)[0])
        return rows
