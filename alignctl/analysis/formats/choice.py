"""What the user says of columns and keys, and how many of them errors name."""

from collections.abc import Sequence
from dataclasses import dataclass

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
