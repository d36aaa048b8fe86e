"""Workers for the tests of the engine, in a module that started processes can import.

As a script, `engine_workers.py FOLDER`, it launches two workers that wait, as a command would.
"""

import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from alignctl.engine.context import WorkerContext
from alignctl.engine.launch import launch
from alignctl.engine.placement import ProcessPlan
from alignctl.errors import TrainingError

DTYPE = torch.float64

if __name__ == "__mp_main__" and "INTERRUPT_WORKERS_AT_START" in os.environ:
    os.killpg(0, signal.SIGINT)  # Ctrl-C while a worker still imports what it needs


def describe(context: WorkerContext, payload: str) -> dict:
    """What this worker knows of itself, and what its collectives return."""
    context.report("hello", rank=context.rank, text="größer")
    context.wait()
    return {
        "rank": context.rank,
        "world_size": context.world_size,
        "device": str(context.device),
        "is_first": context.is_first,
        "threads": context.threads,
        "torch_threads": torch.get_num_threads(),
        "environment": {
            name: os.environ[name]
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        },
        "payload": payload,
        "pid": os.getpid(),
        **collectives(context),
    }


def collectives(context: WorkerContext) -> dict:
    shares = [share(context.rank, index) for index in range(3)]
    summed = context.sum(shares)
    gathered = context.gather({"rank": context.rank, "squares": [context.rank**2, "x"]})
    sent = [share(context.rank, 0), share(context.rank, 1).float()]
    received = context.broadcast(sent)
    return {
        "summed": [tensor.tolist() for tensor in summed],
        "shapes": [tuple(tensor.shape) for tensor in summed],
        "inputs_kept": all(
            torch.equal(tensor, share(context.rank, index)) for index, tensor in enumerate(shares)
        ),
        "gathered": gathered,
        "received": [tensor.tolist() for tensor in received],
    }


def share(rank: int, index: int) -> torch.Tensor:
    """Data that differs per rank: a matrix, a vector, a scalar; sums need float64."""
    shape = [(2, 3), (4,), ()][index]
    stream = torch.Generator().manual_seed(100 * rank + index)
    return torch.randn(shape, dtype=DTYPE, generator=stream) * 1e8 + 1e-3


def refuse(context: WorkerContext, folder: Path) -> None:
    """The second worker raises one of our errors, the first would wait for ever."""
    note_pid(context, folder)
    if context.rank == 1:
        wait_for(folder / "0.pid")
        raise TrainingError("epoch 3: größer als erlaubt\n(1, 2)")
    time.sleep(600)


def break_down(context: WorkerContext, folder: Path) -> None:
    """The second worker fails by accident; the first loses its peer in a collective."""
    if context.rank == 1:
        raise ValueError("no such thing\nand more\nof this")
    dist.barrier()


def die(context: WorkerContext, folder: Path) -> None:
    """The second worker is killed; the first loses its peer in a collective."""
    note_pid(context, folder)
    context.wait()
    if context.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def wait_long(context: WorkerContext, folder: Path) -> None:
    note_pid(context, folder)
    time.sleep(600)


def note_pid(context: WorkerContext, folder: Path) -> None:
    path = folder / f"{context.rank}.pid"
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)


def main() -> None:
    folder = Path(sys.argv[1])
    try:
        launch(
            wait_long, folder, plan=ProcessPlan(2, 1, "cpu"), events_file=folder / "events.jsonl"
        )
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
