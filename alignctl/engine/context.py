"""What a worker knows of itself, and the few collectives that workers need."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from alignctl.engine.events import append_event

T = TypeVar("T")


@dataclass(frozen=True)
class WorkerContext:
    """One process of a launch: its rank, its device, and its line to the others."""

    rank: int
    world_size: int
    device: torch.device
    threads: int
    events_file: Path

    @property
    def is_first(self) -> bool:
        """Whether this worker speaks and writes for all."""
        return self.rank == 0

    def report(self, kind: str, **fields: Any) -> None:
        """Add an event to the stream; only the first worker's are kept."""
        if self.is_first:
            append_event(self.events_file, kind, **fields)

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """The sums over all workers, by one all-reduce.

        tensors: float64, any shapes, the same on every worker. Returned on every worker.
        """
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def gather(self, value: T) -> list[T]:
        """Every worker's value, in the order of ranks, on every worker; plain picklable values."""
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, tensors: list[Tensor]) -> list[Tensor]:
        """The first worker's tensors, on every worker; shapes and dtypes must agree."""
        for tensor in tensors:
            dist.broadcast(tensor, src=0)
        return tensors

    def wait(self) -> None:
        """Return once every worker has come here."""
        dist.barrier()
