"""Whether processes of this machine can work together: one all-reduce, started as training is."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from alignctl.engine.context import WorkerContext
from alignctl.engine.launch import launch
from alignctl.engine.placement import DeviceType, plan_processes

_NUM_PROCESSES = 2
_NUM_VALUES = 1000
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class SelfTest:
    """How an all-reduce went."""

    backend: str
    processes: int
    seconds: float
    """From the start of the processes to their end."""
    error: str | None


def all_reduce_between_two(device: DeviceType) -> SelfTest:
    """Start two processes, let them add what each holds, and check the sums; never raises.

    device: cuda takes two GPUs.
    """
    started = time.perf_counter()
    try:
        error = _all_reduce(device)
    except Exception as failure:  # whatever it is, the user is to read it
        error = str(failure).strip().partition("\n")[0] or type(failure).__name__
    return SelfTest(
        backend="nccl" if device == "cuda" else "gloo",
        processes=_NUM_PROCESSES,
        seconds=round(time.perf_counter() - started, 2),
        error=error,
    )


def _all_reduce(device: DeviceType) -> str | None:
    """None where the sums are right; otherwise what is wrong."""
    plan = plan_processes(
        _NUM_PROCESSES, limit=_NUM_PROCESSES, limit_name="processes to test", device=device
    )
    with tempfile.TemporaryDirectory(prefix="alignctl-") as folder:
        events_file = Path(folder) / "events.jsonl"
        sums = launch(add_up, _NUM_VALUES, plan=plan, events_file=events_file, timeout_s=_TIMEOUT_S)
    expected = [2 * value + 1 for value in range(_NUM_VALUES)]
    wrong = [rank for rank, values in enumerate(sums) if values != expected]
    return f"the sums of process {wrong[0]} are wrong" if wrong else None


def add_up(context: WorkerContext, num_values: int) -> list[float]:
    """0, 1, 2, ... plus the rank, added over all processes."""
    values = torch.arange(num_values, dtype=torch.float64, device=context.device) + context.rank
    context.beat()  # from here on a hang is found out
    dist.all_reduce(values)
    found: list[float] = values.tolist()
    return found
