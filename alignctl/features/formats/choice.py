"""What the user says of columns and keys, and how many of them errors name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alignctl.errors import ConfigError

NO_IDS = "none"
"""The word for `--ids` that has no id looked at."""

_NAMES_SHOWN = 12


@dataclass(frozen=True)
class Choice:
    """What the user says of columns and keys."""

    ids: str | None = None
    """The column or key that holds ids; `none` for none."""
    features: tuple[str, ...] = ()
    """Globs of the names of columns that are features; empty for those that look like it."""


def listed(names: Sequence[str]) -> str:
    """Names in their order for an error: the first dozen, and how many more there are."""
    left = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {left} more" if left > 0 else "")


def in_doubt(path: Path, columns: Sequence[str]) -> ConfigError:
    """The error for columns of a table that may be anything, with what settles it."""
    return ConfigError(
        f"{path}: whole numbers that may be features, ids or labels: column {listed(columns)}; "
        "say which with --features PATTERN (--features '*' takes all) or --ids COLUMN"
    )
