"""Whether two files hold the same images, and in which order, by the ids that both have."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alignctl.errors import ConfigError
from alignctl.features.feature_files import FeatureFile
from alignctl.features.formats.ids import COUNTED, NUMBERED, Ids

_SHOWN = 3
_WAYS_OUT = "--ids COLUMN names other ids, --ids none compares rows as they lie"

Pair = tuple[Ids, Ids]
"""Ids of the first file and of the second."""


@dataclass(frozen=True)
class RowOrder:
    """How the rows of two files belong together."""

    ids: tuple[str, str] | None
    """The columns or keys that say so; None where rows belong together as they lie."""
    second: NDArray[np.int64] | None
    """(n,) rows of the second file in the order of the first; None where they lie so."""
    said: str
    """In a sentence; empty where no file has ids."""


def row_order(a: FeatureFile, b: FeatureFile) -> RowOrder:
    """The order in which rows of b are those of a, by the ids that are trusted most.

    Raises ConfigError where these are not the ids of the same images, repeat in another order, or
    lead to different orders.
    """
    pairs = sorted(filter(_may_join, product(a.ids, b.ids)), key=_rank)
    for rank, group in groupby(pairs, key=_rank):
        of_rank = list(group)
        namesakes = [pair for pair in of_rank if pair[0].name == pair[1].name]
        found = _by_ids(a, b, namesakes or of_rank, must_match=rank != COUNTED)
        if found is not None:
            return found
    return RowOrder(None, None, _one_sided(a, b))


def _may_join(pair: Pair) -> bool:
    """0 to n - 1 without a name belongs to another index of numbers, and to nothing else."""
    ranks = {one.rank for one in pair}
    return COUNTED not in ranks or NUMBERED in ranks


def _rank(pair: Pair) -> int:
    return max(pair[0].rank, pair[1].rank)


def _by_ids(
    a: FeatureFile, b: FeatureFile, pairs: Sequence[Pair], *, must_match: bool
) -> RowOrder | None:
    """The order that ids give; None where none match and none was asked for."""
    orders = [(pair, order) for pair in pairs for order in [_matched(*pair)] if order is not None]
    if not orders:
        if pairs and must_match:
            raise ConfigError(_mismatch(a, b, pairs[0]))
        return None
    first, order = next((one for one in orders if one[0][0].is_distinct), orders[0])
    matching = [pair for pair, _ in orders]
    for pair in pairs if first[0].name == first[1].name else matching:
        mine, theirs = _comparable(*pair)
        if len(theirs) != len(order) or not np.array_equal(mine, theirs[order]):
            raise ConfigError(
                _contradiction(a, b, first, pair) if pair in matching else _mismatch(a, b, pair)
            )
    names = first[0].name, first[1].name
    if np.array_equal(order, np.arange(len(order))):
        return RowOrder(names, None, f"ids: {_pair_name(first)}, the same in the same order")
    said = f"ids: {_pair_name(first)}; rows of {b.name} were put in the order of {a.name}"
    return RowOrder(names, order, said)


def _contradiction(a: FeatureFile, b: FeatureFile, first: Pair, other: Pair) -> str:
    return (
        f"{a.name} and {b.name}: {_pair_name(first)} and {_pair_name(other)} bring the rows into "
        f"different orders; choose with --ids {first[0].name} or --ids {other[0].name}"
    )


def _pair_name(pair: Pair) -> str:
    first, second = pair[0].name, pair[1].name
    return first if first == second else f"{first} and {second}"


def _comparable(a: Ids, b: Ids) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as numbers, or both as text: 12 and "12" are the same id."""
    if a.values.dtype == b.values.dtype:
        return a.values, b.values
    return a.texts(), b.texts()


def _matched(a: Ids, b: Ids) -> NDArray[np.int64] | None:
    """(n,) the rows of b in the order of a; None unless both have the same ids."""
    if len(a.values) != len(b.values):
        return None
    first, second = _comparable(a, b)
    if np.array_equal(first, second):
        return np.arange(len(first))
    index = pd.Index(second)
    if not index.is_unique or not pd.Index(first).is_unique:
        return None
    order = index.get_indexer(pd.Index(first)).astype(np.int64)
    return None if (order < 0).any() else order


def _mismatch(a: FeatureFile, b: FeatureFile, pair: Pair) -> str:
    """Why ids cannot be joined: some are missing, or some repeat."""
    first, second = (pd.Index(values) for values in _comparable(*pair))
    missing = [
        f"{len(lost)} of {len(ids):,} ids of {one.name} are not in {other.name} ({_some(lost)})"
        for one, ids, other, lost in (
            (a, first, b, first.difference(second, sort=False)),
            (b, second, a, second.difference(first, sort=False)),
        )
        if len(lost)
    ]
    if missing:
        return f"ids ({_pair_name(pair)}) of different images: {'; '.join(missing)}; {_WAYS_OUT}"
    file, ids = (a, first) if not first.is_unique else (b, second)
    again = int(ids.duplicated().argmax())
    before = int((ids == ids[again]).argmax())
    return (
        f"{file.name}: id {ids.tolist()[again]!r} ({_pair_name(pair)}) stands in row {before} and "
        f"in row {again}, so that rows in another order cannot be joined; {_WAYS_OUT}"
    )


def _some(ids: pd.Index) -> str:
    shown = ", ".join(repr(value) for value in ids[:_SHOWN].tolist())
    return f"{shown}, ..." if len(ids) > _SHOWN else shown


def _one_sided(a: FeatureFile, b: FeatureFile) -> str:
    for one, other in ((a, b), (b, a)):
        names = [ids.name for ids in sorted(one.ids, key=lambda ids: ids.rank)]
        if any(ids.rank != COUNTED for ids in one.ids):
            return (
                f"{one.name} has ids ({names[0]}) and {other.name} has none: "
                "rows are compared as they lie"
            )
    return ""
