"""Checks of arguments: a ValueError names the argument, what is allowed and what was given."""

import math
import operator
from collections.abc import Collection, Iterable
from numbers import Real
from typing import Any

import numpy as np


def check_whole(name: str, value: Any, *, at_least: int | None = None) -> None:
    """Raise ValueError unless the argument is a whole number, and no smaller; a bool is none."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, not {value!r}") from None
    if at_least is not None and number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, not {number}")


def check_share(name: str, value: Any) -> None:
    """Raise ValueError unless the argument is a number between 0 and 1: not a percentage."""
    if not _is_number(value) or not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, not {value!r}")


def check_positive(name: str, value: Any) -> None:
    """Raise ValueError unless the argument is a finite number above 0."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number above 0, not {value!r}")


def check_flag(name: str, value: Any) -> None:
    """Raise ValueError unless the argument is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, not {value!r}")


def check_choice(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise ValueError unless the argument is one of these words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}: {value!r} is not known; allowed: {', '.join(allowed)}")


def check_text(name: str, value: Any) -> None:
    """Raise ValueError unless the argument is a text."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, not {value!r}")


def text_list(name: str, value: Any) -> list[str]:
    """The texts of an argument that is one text or several; ValueError unless they are texts."""
    if isinstance(value, str):
        return [value]
    found = list(value) if isinstance(value, Iterable) else [value]
    if not all(isinstance(text, str) for text in found):
        raise ValueError(f"{name} must be a text or several, not {value!r}")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)
