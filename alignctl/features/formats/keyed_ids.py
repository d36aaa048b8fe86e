"""Which arrays beside a matrix hold the ids of its rows."""

from collections.abc import Iterator
from pathlib import Path

from alignctl.errors import ConfigError
from alignctl.features.formats.array import Array, Arrays
from alignctl.features.formats.choice import NO_IDS, Choice
from alignctl.features.formats.columns import is_named_like_id, is_named_like_label
from alignctl.features.formats.ids import ALIKE, NAMED, Ids, as_ids, first_missing, rank_of


def ids_beside(path: Path, arrays: Arrays, key: str | None, choice: Choice) -> tuple[Ids, ...]:
    """The ids of the rows of arrays[key]: those named so first, then text that is distinct.

    Raises ConfigError if the array that was asked for holds no ids, one for each row.
    """
    if choice.ids == NO_IDS:
        return ()
    if choice.ids is not None and choice.ids in arrays:
        return (_asked_for(path, choice.ids, arrays[choice.ids], arrays[key].shape[0]),)
    rows = arrays[key].shape[:1]
    vectors = [name for name in arrays if name not in (None, key) and arrays[name].shape == rows]
    found = [one for name in vectors for one in _found(str(name), arrays[name])]
    return tuple(sorted(found, key=lambda one: one.rank))


def unread_ids(arrays: Arrays, key: str | None, choice: Choice) -> str:
    """A note of arrays that are named like ids and hold Python objects; empty without any."""
    names = [
        str(name)
        for name, array in arrays.items()
        if name not in (None, key)
        and is_named_like_id(str(name))
        and array.shape == arrays[key].shape[:1]
        and array.holds == "Python objects"
        and array.values is None
    ]
    if not names or choice.ids == NO_IDS:
        return ""
    return (
        f"{', '.join(names)} may be ids, and cannot be read: Python objects; "
        "numpy.savez(..., ids=ids.astype(str)) writes text"
    )


def _asked_for(path: Path, name: str, array: Array, num_rows: int) -> Ids:
    values = None if array.values is None else as_ids(array.values())
    if array.shape != (num_rows,) or values is None:
        raise ConfigError(
            f"{path}:{name}: holds {array.holds} {array.shape}; "
            f"want {num_rows} ids, text or whole numbers"
        )
    missing = first_missing(values)
    if missing is not None:
        raise ConfigError(f"{path}:{name}, row {missing}: no id")
    return Ids(name, values)


def _found(name: str, array: Array) -> Iterator[Ids]:
    is_named = is_named_like_id(name)
    looks_like_it = array.holds == "text" and not is_named_like_label(name)
    if array.values is None or not (is_named or looks_like_it):
        return
    values = as_ids(array.values())
    if values is not None and first_missing(values) is None:
        rank = rank_of(name, values, otherwise=NAMED if is_named else ALIKE)
        found = Ids(name, values, rank)
        if is_named or found.is_distinct:
            yield found
