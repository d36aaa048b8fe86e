"""The result of a check, and what each kind of run provides for `alignctl verify`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch

CheckResult = Literal["ok", "differs", "damaged", "not checked"]
NUM_NAMED = 3  # of several faulty files, so many are named


@dataclass(frozen=True)
class Check:
    """One claim, what came of it, and the finding in a sentence."""

    name: str
    result: CheckResult
    finding: str


class Verification(Protocol):
    """The checks of one run: a frozen value that crosses to a worker."""

    @property
    def num_checks(self) -> int:
        """How many there will be."""

    def checks(self, device: "torch.device") -> Iterator[Check]:
        """Each check, made when it is asked for; reads the run and writes nothing."""


def some_of(faults: list[str]) -> str:
    """The first few faults, and how many more there are."""
    more = f"; {len(faults) - NUM_NAMED} more" if len(faults) > NUM_NAMED else ""
    return "; ".join(faults[:NUM_NAMED]) + more
