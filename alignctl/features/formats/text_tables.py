"""Tables of text: .csv and .tsv files, which are read whole."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from alignctl.errors import ConfigError
from alignctl.features.formats.array import Array, Part, from_numpy
from alignctl.features.formats.columns import (
    Column,
    Kind,
    is_named_like_id,
    is_named_like_label,
)
from alignctl.features.formats.tables import INDEX

_LARGE_BYTES = 2**30
_ROWS_SEEN = 1000
_SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True)
class _Layout:
    """How a file is written, by its first lines."""

    separator: str
    encoding: str
    names: tuple[str, ...] | None
    """Of the columns; None where the first line holds numbers already."""
    num_lines: int
    """Lines before the first row."""
    is_counted: bool
    """Whether the names are 0, 1, 2, ...: those that pandas gives."""


def text_table(path: Path) -> "TextTable":
    """The table of a file; ValueError where it holds no rows of numbers."""
    layout = _layout_of(path)
    frame = _read(path, layout)
    if not any(pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes) or frame.empty:
        raise ValueError("it holds no rows of numbers (with points, not commas, before decimals)")
    for name in frame.columns:
        _refuse_odd_text(path, str(name), frame[name])
    notes = [f"is text of {path.stat().st_size / 1e9:.1f} GB, and read whole"] * (
        path.stat().st_size > _LARGE_BYTES
    )
    if layout.is_counted:
        notes.append("its first line counts the columns, and was taken as their names")
    return TextTable(path, frame, layout, "; ".join(notes))


def _layout_of(path: Path) -> _Layout:
    with path.open("rb") as file:
        is_wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    encoding = "utf-16" if is_wide else "utf-8-sig"
    before: list[str] = []
    with path.open(encoding=encoding) as text:
        line = text.readline()
        while line and (not line.strip() or line.startswith("#")):
            before.append(line)
            line = text.readline()
    separator = _separator_of(line)
    cells = _cells(line, separator)
    comment = next((one.lstrip("# ") for one in reversed(before) if one.strip()), "")
    names = _cells(comment, separator)
    if len(names) == len(cells) and not any(map(_is_number, names)):  # as numpy.savetxt writes them
        return _Layout(separator, encoding, tuple(names), len(before), False)
    if not _are_names(cells):
        return _Layout(separator, encoding, None, len(before), False)
    is_counted = any(map(_is_number, cells))
    return _Layout(separator, encoding, tuple(cells), len(before) + 1, is_counted)


def _separator_of(line: str) -> str:
    found = max(_SEPARATORS, key=line.count)
    if found in line:
        return found
    return r"\s+" if re.search(r"\S\s+\S", line) else ","


def _cells(line: str, separator: str) -> list[str]:
    if separator == r"\s+":
        return line.split()
    found = next(csv.reader([line.strip("\r\n")], delimiter=separator, skipinitialspace=True), [])
    return [cell.strip() for cell in found]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _are_names(cells: list[str]) -> bool:
    """Whether a first line names columns: no number is in it, or only 0, 1, 2, ... as of pandas."""
    numbers = [cell for cell in cells if _is_number(cell)]
    counted = [str(number) for number in range(len(numbers))]
    others = [cell for cell in cells if not _is_number(cell)]
    says_more = any(not cell or is_named_like_id(cell) for cell in others)
    return not numbers or (numbers == counted and (len(numbers) > 1 or says_more))


def _read(path: Path, layout: _Layout) -> pd.DataFrame:
    """The rows, with names as text; row names without a name of their own are `index`."""
    read: Callable[..., Any] = partial(
        pd.read_csv,
        path,
        sep=layout.separator,
        header=None,
        skiprows=layout.num_lines,
        encoding=layout.encoding,
        skipinitialspace=True,
    )
    try:
        first = read(nrows=_ROWS_SEEN, dtype=str)
    except pd.errors.EmptyDataError as error:
        raise ValueError("it has a header, and no rows below it") from error
    texts: dict[Any, type] = {name: str for name in first if _has_leading_zeros(first[name])}
    frame: pd.DataFrame = read(low_memory=False, dtype=texts)
    names = [str(number) for number in range(frame.shape[1])]
    if layout.names is not None:
        names = list(layout.names)
        extra = frame.shape[1] - len(names)
        if extra == 1 and not frame.iloc[:, -1].isna().all():
            names = ["", *names]  # as R writes names of rows
        names += [""] * (frame.shape[1] - len(names))
    if len(names) != frame.shape[1]:
        raise ValueError(
            f"its first line names {len(names)} columns, and rows have {frame.shape[1]}"
        )
    frame.columns = pd.Index(_distinct(names))
    empty = [name for name in frame.columns[-1:] if frame[name].isna().all() and not names[-1]]
    return frame.drop(columns=empty)


def _has_leading_zeros(column: "pd.Series[Any]") -> bool:
    """Whether a column holds ids such as 007, which are other ids than 7."""
    texts = column.dropna().str.strip()
    return bool(texts.str.fullmatch(r"\d+").all() and texts.str.match(r"0\d").any())


def _distinct(names: list[str]) -> list[str]:
    """Names for columns that have none, and different ones for those of the same name."""
    found: list[str] = []
    for number, name in enumerate(names):
        if not name:
            name = f"Unnamed: {number}" if number or INDEX in names else INDEX  # noqa: PLW2901
        found.append(f"{name}.{found.count(name)}" if name in found else name)
    return found


def _refuse_odd_text(path: Path, name: str, column: "pd.Series[Any]") -> None:
    """A column of numbers with some text among them is neither features nor ids."""
    if pd.api.types.is_numeric_dtype(column) or is_named_like_id(name) or is_named_like_label(name):
        return
    odd = column.notna() & pd.to_numeric(column, errors="coerce").isna()
    if 2 * odd.sum() < column.notna().sum():
        row = int(odd.to_numpy().argmax())
        raise ConfigError(f"{path}, row {row}, column '{name}': '{column[row]}' is no number")


@dataclass(frozen=True, eq=False)
class TextTable:
    """A table in memory."""

    path: Path
    frame: pd.DataFrame
    layout: _Layout
    note: str
    row_labels: None = None

    @property
    def num_rows(self) -> int:
        """Rows of each column."""
        return len(self.frame)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """All of them, in the file's order."""
        kinds = {str(name): self._kind(str(name)) for name in self.frame.columns}
        return tuple(Column(name, kind, kind) for name, kind in kinds.items())

    def _kind(self, name: str) -> Kind:
        column = self.frame[name]
        if not pd.api.types.is_numeric_dtype(column):
            return "text"
        values = column.to_numpy()
        if values.dtype.kind in "iub":
            return "integer"
        # 1.0, 2.0, ...: an id that was written beside floating-point numbers
        is_whole = bool((values == np.rint(values)).all())
        return "integer" if is_whole and len(values) > 1 and column.is_unique else "float"

    def values(self, names: Sequence[str]) -> Iterator[NDArray[Any]]:
        """All entries of each of these columns."""
        for name in names:
            is_text = self._kind(name) == "text"
            yield self.frame[name].to_numpy(object if is_text else None)

    def matrix(self, names: tuple[str, ...]) -> Array:
        """Columns of numbers side by side: float64."""
        numbers = self.frame[list(names)].to_numpy(np.float64)
        for row, column in np.argwhere(np.isnan(numbers))[:1]:
            raise ConfigError(f"{self.path}, row {row}, column '{names[column]}': no value")
        return Array(numbers.shape, "numbers", True, partial(_rows_of, numbers))


def _rows_of(numbers: NDArray[np.float64], part: Part) -> Tensor:
    return from_numpy(numbers[part])
