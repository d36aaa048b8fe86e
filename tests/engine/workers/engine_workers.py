"""Workers for the tests of the engine, in a module that started processes can import.

As a script, `engine_workers.py FOLDER WORKER [stoppable]`, it launches two, as a command would.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from threadpoolctl import threadpool_info

from alignctl.engine.context import WorkerContext
from alignctl.engine.launch import launch
from alignctl.engine.own_process import running_a_command
from alignctl.engine.placement import ProcessPlan
from alignctl.engine.stopping import is_stop_requested
from alignctl.errors import PreemptedError, TrainingError

DTYPE = torch.float64

if __name__ == "__mp_main__":  # while a worker still imports what it needs
    for name in os.environ.get("SIGNALS_AT_START", "").split():
        os.killpg(0, signal.Signals[name])


def describe(context: WorkerContext, payload: str) -> dict:
    """What this worker knows of itself, and what its collectives return."""
    context.report("hello", rank=context.rank, text="größer")
    context.wait()
    return {
        "rank": context.rank,
        "size": context.size,
        "device": str(context.device),
        "is_first": context.is_first,
        "threads": context.threads,
        "torch_threads": torch.get_num_threads(),
        "environment": {
            name: os.environ[name]
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        },
        "payload": payload,
        "stops": context.stops_before(0),
        "collective_timeout": collective_timeout(),
        "pid": os.getpid(),
        **collectives(context),
    }


def surroundings(context: WorkerContext, names: list[str]) -> dict:
    """Who started this worker, and some variables as it sees them."""
    variables = {name: os.environ.get(name) for name in names}
    return {"parent": os.getppid(), "variables": variables}


def collectives(context: WorkerContext) -> dict:
    shares = [share(context.rank, index) for index in range(3)]
    summed = context.sum(shares)
    gathered = context.gather({"rank": context.rank, "squares": [context.rank**2, "x"]})
    return {
        "summed": [tensor.tolist() for tensor in summed],
        "shapes": [tuple(tensor.shape) for tensor in summed],
        "inputs_kept": all(
            torch.equal(tensor, share(context.rank, index)) for index, tensor in enumerate(shares)
        ),
        "gathered": gathered,
        "joined": context.gather_tensor(torch.tensor([context.rank]), dim=0).tolist(),
    }


def collective_timeout() -> timedelta:
    backend = dist.group.WORLD._get_backend(torch.device("cpu"))
    return backend.options._timeout


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


def lose_peer_first(context: WorkerContext, folder: Path) -> None:
    """The first worker is gone from collectives before it says why."""
    if context.rank == 1:
        dist.barrier()
    dist.destroy_process_group()
    time.sleep(0.3)
    raise TrainingError("the real reason")


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


def step_freely(context: WorkerContext, folder: Path) -> int:
    """Steps that take the first worker longer than the second; returns the first not taken."""
    note_pid(context, folder)
    for step in itertools.count():
        if context.is_first and step == 10:
            wait_for(folder / "1.pid")
            context.report("begun")
        if context.stops_before(step):
            return step
        time.sleep([0.01, 0.001][context.rank])
    raise AssertionError


def step_together(context: WorkerContext, folder: Path) -> int:
    """In step 3 the first worker waits in a collective for the second, which waits for a file."""
    for step in itertools.count():
        if context.stops_before(step):
            return step
        if step == 3:
            note_pid(context, folder)
            if context.rank == 1:
                wait_for(folder / "go")
        dist.all_reduce(torch.zeros(1))
    raise AssertionError


def never_stop(context: WorkerContext, folder: Path) -> None:
    """Say that work has begun, say that one was asked to stop, and take no notice."""
    note_pid(context, folder)
    context.report("begun")
    while not is_stop_requested(context.stopping._folder):
        time.sleep(0.02)
    context.report("asked")
    time.sleep(600)


def finish_without_scratch(context: WorkerContext, folder: Path) -> int:
    """Steps, in whose midst the scratch folder is cleaned away, to their end."""
    for step in range(10):
        assert not context.stops_before(step)
        if step == 5:
            lose_scratch(context)
    return context.rank


def step_without_scratch(context: WorkerContext, folder: Path) -> int:
    """As `step_freely`, after the scratch folder has been cleaned away."""
    context.stops_before(0)
    lose_scratch(context)
    return step_freely(context, folder)


def refuse_without_scratch(context: WorkerContext, folder: Path) -> None:
    lose_scratch(context)
    refuse(context, folder)


def hang_without_scratch(context: WorkerContext, folder: Path) -> None:
    note_pid(context, folder)
    context.beat()
    time.sleep(0.5)  # so that it is missed
    lose_scratch(context)
    time.sleep(600)


def lose_scratch(context: WorkerContext) -> None:
    context.wait()
    if context.is_first:
        # moved away first: a heartbeat that is renamed meanwhile would make the removal fail
        removed = context.stopping._folder.rename(context.stopping._folder.with_suffix(".removed"))
        shutil.rmtree(removed)
    context.wait()


def wait_and_tell(context: WorkerContext, folder: Path) -> None:
    note_pid(context, folder)
    context.wait()
    context.report("begun")
    time.sleep(600)


def die_before_agreeing(context: WorkerContext, folder: Path) -> None:
    """The first worker waits for the agreement to stop, the second is killed before it agrees."""
    note_pid(context, folder)
    context.report("begun")
    if context.rank == 1:
        wait_for(context.stopping._folder / "not_begun_0")
        os.kill(os.getpid(), signal.SIGKILL)
    step_freely(context, folder)


def be_told_to_end(context: WorkerContext, folder: Path) -> None:
    """The second worker is sent a SIGTERM of its own while it is in a collective for ever."""
    note_pid(context, folder)
    context.wait()
    if context.rank == 0:
        os.kill(int((folder / "1.pid").read_text()), signal.SIGTERM)
        time.sleep(600)
    dist.barrier()


def work_then_hang(context: WorkerContext, folder: Path) -> None:
    """The second worker works on for longer than a second, the first waits for it honestly."""
    note_pid(context, folder)
    context.beat()
    if context.rank == 1:
        for _ in range(30):
            time.sleep(0.1)
            context.beat()
        (folder / "worked").touch()
    context.wait()
    if context.rank == 0:
        context.wait()
    time.sleep(600)


def be_stopped(context: WorkerContext, folder: Path) -> None:
    """The second worker is stopped by a signal, the first works on."""
    note_pid(context, folder)
    for step in itertools.count():
        context.stops_before(step)
        if context.rank == 1 and step == 5:
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.02)


def work_for_a_while(context: WorkerContext, folder: Path) -> int:
    """Three seconds of work, in which the parent has heard of it when the pid is noted."""
    for step in range(150):
        if step == 30:
            note_pid(context, folder)
        context.stops_before(step)
        time.sleep(0.02)
    return context.rank


def note_pid(context: WorkerContext, folder: Path) -> None:
    path = folder / f"{context.rank}.pid"
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)


def tell_surroundings(context: WorkerContext, folder: Path) -> dict:
    """What a worker has of the command that started it, and of the process that it came from."""
    files = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return {
        "words": Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0"),
        "parent": os.getppid(),
        "threads": torch.get_num_threads(),
        "variable": os.environ["OMP_NUM_THREADS"],
        "pools": sorted({pool["num_threads"] for pool in threadpool_info()}),
        "holds": (folder / "held").resolve() in files,
        "handlers": [signal.getsignal(number) for number in numbers],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    }


def main(words: list[str]) -> None:
    """Launch two workers: FOLDER WORKER [stoppable]."""
    # what a worker imports as it starts is not imported in a copy of this process
    alone = "SIGNALS_AT_START" not in os.environ
    with running_a_command() if alone else contextlib.nullcontext():
        run(Path(words[0]), globals()[words[1]], stoppable="stoppable" in words)


def run(folder: Path, worker: Callable[[WorkerContext, Path], Any], *, stoppable: bool) -> None:
    timeout_s = float(os.environ.get("TIMEOUT_S", "1800"))
    try:
        with (folder / "held").open("w"):
            results = launch(
                worker,
                folder,
                plan=ProcessPlan(2, 1, "cpu"),
                events_file=folder / "events.jsonl",
                stoppable=stoppable,
                timeout_s=timeout_s,
            )
        (folder / "results.json").write_text(json.dumps(results))
    except KeyboardInterrupt:
        sys.exit(130)
    except PreemptedError as error:
        sys.exit(f"preempted: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
