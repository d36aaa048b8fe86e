"""Which columns of a table are features, which may be ids of its rows, and which are neither.

An id or a label that counts as a feature ruins every score, so a whole number counts as one only
where the table says so: by a numbered name that it shares with other features, or where all
columns are whole numbers. What stays in doubt is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Kind = Literal["float", "integer", "text", "list", "other"]
"""list: each entry a list of numbers. other: what is neither a number nor text."""

_ID_WORDS = {
    "id", "ids", "idx", "index", "indices", "uid", "uuid", "guid", "key", "keys", "path",
    "paths", "filepath", "filepaths", "file", "files", "filename", "filenames", "fname",
    "fnames", "name", "names", "stem", "url", "uri", "hash",
    "image", "images", "img", "imageid", "imgid", "sample", "samples", "sampleid", "fileid",
    "row",
}  # fmt: skip
_LABEL_WORDS = {
    "label", "labels", "target", "targets", "class", "classes", "category", "categories",
    "labelid", "classid", "split", "fold", "species",
}  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


@dataclass(frozen=True)
class Column:
    """A column of a table, by what the file says of it."""

    name: str
    kind: Kind
    holds: str
    """Its type, in the file's words."""
    is_index: bool = False
    """Whether it is the index, or a level of the index, of the pandas frame that was written."""


@dataclass(frozen=True)
class Roles:
    """What the columns of a table are for, by their names."""

    features: tuple[str, ...]
    ids: tuple[str, ...]
    """Those that may be ids, which their values decide."""
    in_doubt: tuple[str, ...]
    """Whole numbers that may be features, ids or labels."""


def is_named_like_id(name: str) -> bool:
    """Whether a name such as `image_id`, `filenames` or `Unnamed: 0` says that ids stand there."""
    words = _words(name)
    is_id = bool(words) and words[-1] in _ID_WORDS and not is_named_like_label(name)
    return is_id or re.fullmatch(r"Unnamed: \d+", name) is not None


def numbers_rows(name: str) -> bool:
    """Whether a name such as `index` or `Unnamed: 0` says where a row stood, and not what it is."""
    return name.startswith("Unnamed: ") or _words(name)[-1:] in (["index"], ["idx"], ["row"])


def is_named_like_label(name: str) -> bool:
    """Whether a name such as `label` or `fine_label_id`, but not `class_3`, names a label."""
    words = _words(name)
    return bool(words) and not words[-1].isdigit() and not _LABEL_WORDS.isdisjoint(words)


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def roles_of(
    columns: Sequence[Column], *, patterns: Sequence[str] = (), ids: str | None = None
) -> Roles:
    """What each column is for.

    patterns: globs of the names of features, which then are all that are features. ids: the
    column that holds ids, or `none`.
    """
    lists = [column for column in columns if column.kind == "list"]
    others = [column for column in columns if column.name != ids]
    if patterns:
        features = tuple(column.name for column in others if _is_asked_for(column, patterns))
        in_doubt: tuple[str, ...] = ()
    elif lists:
        features, in_doubt = tuple(column.name for column in lists), ()
    else:
        features, in_doubt = _numbers_among(others)
    left = [column for column in columns if column.name not in features]
    return Roles(features, tuple(column.name for column in left if _may_be_id(column)), in_doubt)


def _is_asked_for(column: Column, patterns: Sequence[str]) -> bool:
    is_number = column.kind in ("float", "integer", "list")
    return is_number and not column.is_index and matches(column.name, patterns)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of several globs."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _may_be_id(column: Column) -> bool:
    if is_named_like_label(column.name):
        return False
    is_float_id = column.kind == "float" and is_named_like_id(column.name)
    return column.is_index or column.kind in ("integer", "text") or is_float_id


def _numbers_among(columns: Sequence[Column]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Features and columns in doubt, by their names, where no column is a list."""
    open_ = [column for column in columns if not column.is_index and not _says_no_feature(column)]
    floats = [column.name for column in open_ if column.kind == "float"]
    integers = [column.name for column in open_ if column.kind == "integer"]
    if not integers:
        return tuple(floats), ()
    if floats:
        series = {_series(name) for name in floats} - {None}
        doubtful = [name for name in integers if name.isdigit()]
        members = {name for name in integers if _series(name) in series}
    else:
        found = [_series(name) for name in integers if _series(name)]
        largest = max(found, key=found.count, default=None)
        is_series = found.count(largest) > 1
        members = {name for name in integers if not is_series or _series(name) == largest}
        doubtful = [name for name in integers if is_series and name not in members]
    features = [c.name for c in open_ if c.name in members or c.kind == "float"]
    return tuple(features), tuple(doubtful)


def _says_no_feature(column: Column) -> bool:
    return is_named_like_id(column.name) or is_named_like_label(column.name)


def _series(name: str) -> str | None:
    """What a numbered name begins with: `f` of f12; None where that is nothing."""
    found = re.fullmatch(r"(.*?\D)\d+", name)
    return found[1] if found else None
