"""Ids of rows, as files give them: whole numbers or text."""

from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alignctl.features.formats.columns import numbers_rows

_LARGEST = 2**53  # above it floats skip whole numbers

NAMED, NUMBERED, ALIKE, COUNTED = range(4)
"""Ranks of ids: asked for, or named so; numbers of rows, such as an index without a name; text or
whole numbers that look like ids; and 0 to n - 1, which any frame has that was given no index."""


@dataclass(frozen=True, eq=False)
class Ids:
    """One id for each row of a file."""

    name: str
    """The column, key or index that holds them."""
    values: NDArray[Any]
    """(n,) int64, or Python texts as objects."""
    rank: int = NAMED
    """How far they are to be trusted, the smaller the further."""
    columns: tuple[str, ...] = ()
    """The columns of a table that they were made of."""

    @property
    def is_distinct(self) -> bool:
        """Whether no id occurs twice."""
        return bool(pd.Index(self.values).is_unique)

    def texts(self) -> NDArray[Any]:
        """(n,) objects: the ids as text, in which 12 and "12" are the same."""
        return np.array([str(value) for value in self.values.tolist()], object)


def as_ids(values: NDArray[Any]) -> NDArray[Any] | None:
    """(n,) int64 or texts as objects, from what a file holds; None where that is no id.

    Whole numbers of a floating-point dtype count as whole numbers. A text that is missing is None.
    """
    kind = values.dtype.kind
    if kind in "iu":
        fits = values.dtype != np.uint64 or not (values > np.iinfo(np.int64).max).any()
        return values.astype(np.int64) if fits else values.astype(str).astype(object)
    if kind == "f":
        whole = bool((np.isfinite(values) & (np.abs(values) < _LARGEST)).all())
        return values.astype(np.int64) if whole and (values == np.rint(values)).all() else None
    if kind in "UM":
        return values.astype(str).astype(object)
    if kind in "SO":
        return _as_texts(values.tolist())
    return None


def _as_texts(values: list[Any]) -> NDArray[Any] | None:
    if any(isinstance(value, list | tuple | dict | np.ndarray) for value in values):
        return None
    if values and all(isinstance(value, int) for value in values):
        return as_ids(np.array(values))
    return np.array([_as_text(value) for value in values], object)


def _as_text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    is_missing = value is None or value is pd.NaT or (isinstance(value, float) and isnan(value))
    return None if is_missing else str(value)


def rank_of(name: str, values: NDArray[Any], *, otherwise: int) -> int:
    """The rank of ids: `otherwise`, unless they are numbers that only say where a row stood."""
    if values.dtype == object or not numbers_rows(name):
        return otherwise
    return COUNTED if np.array_equal(values, np.arange(len(values))) else NUMBERED


def first_missing(values: NDArray[Any]) -> int | None:
    """The first row without an id."""
    if values.dtype.kind != "O":
        return None
    return next((row for row, value in enumerate(values.tolist()) if value is None), None)
