"""Files of columns: which of them are features, and which are ids of the rows."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alignctl.errors import ConfigError
from alignctl.features.formats.array import Array, Arrays
from alignctl.features.formats.choice import NO_IDS, Choice, in_doubt, listed
from alignctl.features.formats.columns import (
    Column,
    Roles,
    is_named_like_id,
    is_named_like_label,
    roles_of,
)
from alignctl.features.formats.ids import ALIKE, NAMED, Ids, as_ids, first_missing, rank_of

INDEX = "index"
"""What an index without a name is called."""
_UNNAMED = re.compile(r"__index_level_\d+__")


class Table(Protocol):
    """A file of columns."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def num_rows(self) -> int:
        """Rows of each column."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """All of them, in the file's order."""

    @property
    def row_labels(self) -> tuple[str, range] | None:
        """The name and the numbers of a pandas index that is a range, and so no column."""

    @property
    def note(self) -> str:
        """How the file was read, where that is a guess."""

    def matrix(self, names: tuple[str, ...]) -> Array:
        """Columns of numbers side by side, or the lists of one column as rows."""

    def values(self, names: Sequence[str]) -> Iterator[NDArray[Any]]:
        """All entries of each of these columns, which hold numbers or text."""


@dataclass(frozen=True)
class TableContents:
    """The matrices of a table, and what its other columns are."""

    arrays: Arrays
    names: dict[str | None, tuple[str, ...]]
    """The columns that each matrix is made of."""
    ids: tuple[Ids, ...]
    left_out: tuple[str, ...]
    """Columns that are neither features nor ids."""


def contents_of(table: Table, choice: Choice) -> TableContents:
    """Features and ids of a table.

    Raises ConfigError where a column may be either, or where none are features.
    """
    roles = _with_values(table, choice)
    kinds = {column.name: column.kind for column in table.columns}
    lists = [name for name in roles.features if kinds[name] == "list"]
    if lists and len(lists) < len(roles.features):
        raise ConfigError(
            f"{table.path}: columns of lists ({lists[0]}) and of numbers cannot be features "
            "together; choose with --features"
        )
    names: dict[str | None, tuple[str, ...]] = (
        {name: (name,) for name in lists} if lists else {None: roles.features}
    )
    ids = tuple(_ids_of(table, roles, choice))
    used = {*roles.features, *(name for one in ids for name in one.columns)}
    left_out = tuple(name for name in kinds if name not in used)
    if kinds and not roles.features:
        raise ConfigError(_no_features(table, choice))
    arrays = {key: table.matrix(columns) for key, columns in names.items()}
    return TableContents(arrays, names, ids, left_out)


def _no_features(table: Table, choice: Choice) -> str:
    found = listed([f"{column.name}: {column.holds}" for column in table.columns])
    if choice.features:
        return (
            f"{table.path}: no column of numbers is named {' or '.join(choice.features)} ({found})"
        )
    return (
        f"{table.path}: no column holds features; want columns of numbers, or a column of number "
        f"lists; --features PATTERN names them ({found})"
    )


def _with_values(table: Table, choice: Choice) -> Roles:
    """The roles of all columns, once the values of those that names leave open were seen."""
    roles = roles_of(table.columns, patterns=choice.features, ids=choice.ids)
    if choice.features:
        return roles
    kinds = {column.name: column.kind for column in table.columns}
    has_floats = any(kinds[name] == "float" for name in roles.features)
    floats = [name for name in roles.ids if kinds[name] == "float"]
    measured = [name for name, ids in zip(floats, _ids(table, floats), strict=True) if ids is None]
    told_apart = _distinct(table, roles.in_doubt) if has_floats else []
    doubtful = [name for name in roles.in_doubt if name not in told_apart]
    doubtful += _apart(table, [name for name in roles.features if kinds[name] == "integer"])
    if doubtful:
        raise in_doubt(table.path, doubtful)
    features = {*roles.features, *measured} if "list" not in kinds.values() else roles.features
    ordered = tuple(name for name in kinds if name in features)
    ids = tuple(name for name in roles.ids if name not in ordered)
    return Roles(ordered, ids, ())


def _ids(table: Table, names: Sequence[str]) -> Iterator[NDArray[Any] | None]:
    """Each column as ids; None for one that holds none."""
    return map(as_ids, table.values(names))


def _distinct(table: Table, names: Sequence[str]) -> list[str]:
    """The columns in which no value occurs twice."""
    columns = zip(names, table.values(names), strict=True)
    return [name for name, values in columns if pd.Index(values).is_unique]


def _apart(table: Table, names: Sequence[str]) -> list[str]:
    """Columns of a table of whole numbers without numbered names that count or number its rows."""
    unnamed = [name for name in names if name.rstrip("0123456789") in ("", name)]
    if not unnamed or table.num_rows < 2 or len(unnamed) < len(names):
        return []
    distinct = _distinct(table, unnamed)
    if len(distinct) < len(unnamed):
        return distinct
    columns = zip(distinct, table.values(distinct), strict=True)
    return [name for name, values in columns if np.ptp(values) == table.num_rows - 1]


def _ids_of(table: Table, roles: Roles, choice: Choice) -> list[Ids]:
    """The index first, then what is named like ids or else tells all rows apart."""
    if choice.ids == NO_IDS:
        return []
    if choice.ids in [column.name for column in table.columns]:
        return [_asked_for(table, str(choice.ids))]
    index = [column.name for column in table.columns if column.is_index]
    found = list(_index_of(table, [name for name in index if name in roles.ids]))
    if choice.ids == INDEX and has_index(table):
        return found
    names = [name for name in roles.ids if name not in index]
    incomplete = []
    for name, values in zip(names, _ids(table, names), strict=True):
        if values is not None and first_missing(values) is None:
            otherwise = NAMED if is_named_like_id(name) else ALIKE
            one = Ids(name, values, rank_of(name, values, otherwise=otherwise), (name,))
            found += [one] if one.rank == NAMED or one.is_distinct else []
        elif is_named_like_id(name):
            incomplete.append(name)
    if incomplete and all(one.rank != NAMED for one in found):
        raise ConfigError(
            f"{table.path}, column '{incomplete[0]}': some rows have no id; --ids COLUMN names "
            "other ids, --ids none compares rows as they lie"
        )
    return found


def _asked_for(table: Table, name: str) -> Ids:
    (values,) = _ids(table, [name])
    if values is None:
        raise ConfigError(f"{table.path}, column '{name}': want ids that are text or whole numbers")
    missing = first_missing(values)
    if missing is not None:
        raise ConfigError(f"{table.path}, row {missing}, column '{name}': no id")
    return Ids(name, values, NAMED, (name,))


def has_index(table: Table) -> bool:
    """Whether pandas wrote the table, with the index that its frame had."""
    return table.row_labels is not None or any(column.is_index for column in table.columns)


def _index_of(table: Table, levels: Sequence[str]) -> Iterator[Ids]:
    """The index of the frame that was written: a column, several, or numbers of its rows."""
    name, labels = table.row_labels or (INDEX, range(0))
    if len(labels) == table.num_rows and not is_named_like_label(name):
        numbers = np.array(labels, np.int64)
        yield Ids(name, numbers, rank_of(name, numbers, otherwise=NAMED))
    found = list(_ids(table, levels))
    values = [one for one in found if one is not None and first_missing(one) is None]
    if not values or len(values) < len(found):
        return
    name = ", ".join(INDEX if _UNNAMED.fullmatch(level) else level for level in levels)
    joined = values[0] if len(values) == 1 else _joined(values)
    yield Ids(name, joined, rank_of(name, joined, otherwise=NAMED), tuple(levels))


def _joined(levels: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """One text for each row from several ids."""
    rows = zip(*(map(str, level.tolist()) for level in levels), strict=True)
    return np.array([json.dumps(row, ensure_ascii=False) for row in rows], object)
