"""The processes that share a piece of work, as every part of the code sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class Processes(Protocol):
    """Processes that share a computation or a batch, this one among them.

    Every collective is called by all of them, in the same order.
    """

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks, on each; plain picklable values."""

    def gather_tensor(self, share: Tensor, *, dim: int) -> Tensor:
        """All shares, joined along `dim` in the order of ranks, the same on every process.

        share: at least 1-d, of the same shape and dtype everywhere. The gradient that a share
        receives is the sum over all processes, so that losses which add up to the whole need no
        further correction.
        """

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums over all processes, the same bits on each.

        tensors: of any shapes and dtypes, the same in the same order on every process.
        """


@dataclass(frozen=True)
class Alone:
    """One process that does all the work."""

    rank: int = 0
    size: int = 1

    def gather(self, value: T) -> list[T]:
        """The value itself."""
        return [value]

    def gather_tensor(self, share: Tensor, *, dim: int) -> Tensor:
        """The share itself."""
        return share

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors themselves."""
        return list(tensors)


ALONE = Alone()


def share_of(total: int, processes: Processes) -> slice:
    """This process's consecutive part of so many items; the parts differ by at most one item."""
    rank, size = processes.rank, processes.size
    return slice(total * rank // size, total * (rank + 1) // size)
