"""Workers for the tests of the pool of processes."""

import os
import sys
import time
from typing import Any

import torch

from alignctl.engine.context import WorkerContext
from alignctl.errors import TrainingError


def ranks(context: WorkerContext, payload: str) -> tuple[int, str, list[int], float]:
    """What a process knows, and what its collectives return."""
    context.report("hello")
    (total,) = context.sum([torch.tensor(1.0 + context.rank, dtype=torch.float64)])
    return context.rank, payload, context.gather(os.getpid()), total.item()


def mark(context: WorkerContext, payload: None) -> bool:
    """Whether another task has been in this process."""
    seen = hasattr(sys, "marked")
    sys.marked = True
    return seen


def fail(context: WorkerContext, rank: int) -> None:
    """One process fails while the others wait for it."""
    if context.rank == rank:
        raise TrainingError("loss is nan")
    context.wait()


def fail_with_what_does_not_pickle(context: WorkerContext, payload: None) -> None:
    class LocalError(Exception):
        pass

    raise LocalError("of this function")


def die(context: WorkerContext, rank: int) -> None:
    if context.rank == rank:
        os._exit(9)
    context.wait()


def hang(context: WorkerContext, rank: int) -> None:
    if context.rank == rank:
        time.sleep(600)


def return_what_does_not_pickle(context: WorkerContext, payload: None) -> Any:
    return lambda: None
