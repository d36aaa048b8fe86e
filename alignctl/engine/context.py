"""What a worker knows of itself, and the few collectives that workers need."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from alignctl.engine.collectives import ProcessPeers
from alignctl.engine.events import append_event
from alignctl.engine.heartbeat import Heartbeat
from alignctl.engine.stopping import Stopping

T = TypeVar("T")


@dataclass(frozen=True)
class WorkerContext:
    """One process of a launch: its rank, its device, and its line to the others.

    Fulfils `Processes`, of all workers.
    """

    rank: int
    size: int
    """How many processes there are."""
    device: torch.device
    threads: int
    events_file: Path
    stopping: Stopping | None = None
    """None in a launch that is never asked to stop."""
    heartbeat: Heartbeat | None = None

    @property
    def is_first(self) -> bool:
        """Whether this worker speaks and writes for all."""
        return self.rank == 0

    def report(self, kind: str, **fields: Any) -> None:
        """Add an event to the stream; only the first worker's are kept."""
        if self.is_first:
            append_event(self.events_file, kind, **fields)

    def beat(self) -> None:
        """Say that the work goes on; without another beat for too long, it counts as hung."""
        if self.heartbeat is not None:
            self.heartbeat.beat()

    def waiting(self) -> contextlib.AbstractContextManager[None]:
        """Open while this worker waits for others, which is no hang of its own, however long."""
        return contextlib.nullcontext() if self.heartbeat is None else self.heartbeat.paused()

    def stops_before(self, step: int) -> bool:
        """Whether all workers stop before this step, and so before each that follows.

        step: ascending from 0 or higher, the same numbers on every worker; to be asked before each
        step, in order. The answers are the same on every worker. Beats as well.
        """
        self.beat()
        if self.stopping is None or self.stopping.begins(step):
            return False
        with self.waiting():
            return step >= self.stopping.agreed_step(step)

    def no_more_steps(self) -> None:
        """Let the others agree to stop without this worker; the end of its work says it too."""
        if self.stopping is not None:
            self.stopping.no_more_steps()

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums over all workers, the same on each."""
        with self.waiting():
            return [_awaited(tensor) for tensor in _all_workers().sum(tensors)]

    def gather(self, value: T) -> list[T]:
        """Every worker's value, in the order of ranks, on every worker; plain picklable values."""
        with self.waiting():
            return _all_workers().gather(value)

    def gather_tensor(self, share: Tensor, *, dim: int) -> Tensor:
        """All workers' shares, joined along `dim`, with gradients; see `Processes`."""
        with self.waiting():
            return _awaited(_all_workers().gather_tensor(share, dim=dim))

    def in_turn(self, action: Callable[[], T]) -> T:
        """What an action returns that the first worker takes before all others."""
        if not self.is_first:
            self.wait()
        result = action()
        if self.is_first:
            self.wait()
        return result

    def wait(self) -> None:
        """Return once every worker has come here."""
        with self.waiting():
            dist.barrier()


def _all_workers() -> ProcessPeers:
    assert dist.group.WORLD is not None
    return ProcessPeers(dist.group.WORLD)


def _awaited(tensor: Tensor) -> Tensor:
    """The tensor, once a GPU has it: its collectives return at once and are waited for later."""
    if tensor.is_cuda:
        torch.cuda.current_stream(tensor.device).synchronize()
    return tensor
