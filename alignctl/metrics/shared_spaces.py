"""What is made of one space for all its pairs: kernels, distances, neighbours; within a bound."""

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar

LIMIT = 2**30
"""Bytes that one process keeps."""


class MadeOfSpace(Protocol):
    """What a metric makes of one space before it is compared with another."""

    @property
    def num_bytes(self) -> int:
        """About how much memory it takes."""


S = TypeVar("S", bound=MadeOfSpace)


class SharedSpaces:
    """Keeps what was made, as long as it fits the limit: what was not used for longest goes first.

    What does not fit is made again for each pair.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._kept: dict[Hashable, MadeOfSpace] = {}

    def get(self, key: Hashable, make: Callable[[], S]) -> S:
        """What is kept under the key, or else is made now; the key says all it depends on."""
        if key in self._kept:
            found: S = self._kept.pop(key)  # type: ignore[assignment]
        else:
            found = make()
        self._kept[key] = found  # the last used stands last
        while sum(made.num_bytes for made in self._kept.values()) > self._limit:
            del self._kept[next(iter(self._kept))]
        return found
