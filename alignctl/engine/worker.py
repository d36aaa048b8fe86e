"""The first function of every worker: its signals, its end with its parent, its last words."""

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar

import torch
import torch.distributed as dist
from threadpoolctl import threadpool_limits

from alignctl.engine.collectives import COLLECTIVE_TIMEOUT
from alignctl.engine.context import WorkerContext
from alignctl.engine.forked import HELD, die_with_parent_thread
from alignctl.engine.heartbeat import Heartbeat
from alignctl.engine.placement import ProcessPlan
from alignctl.engine.scratch import write_in_scratch
from alignctl.engine.stopping import Stopping, is_stop_requested
from alignctl.errors import AlignctlError, out_of_memory

P = TypeVar("P")
R = TypeVar("R")
_PRECEDENCE_S = 0.5
_PARENT_ASKS_WITHIN_S = 2.0


@dataclass(frozen=True)
class Job(Generic[P, R]):
    """What travels to every worker."""

    worker: Callable[[WorkerContext, P], R]
    payload: P
    plan: ProcessPlan
    events_file: Path
    scratch: Path
    parent: int
    stoppable: bool
    environment: Mapping[str, str | None]
    """Variables to be set, or removed, before the work begins."""


def held_signals(*, stoppable: bool) -> set[signal.Signals]:
    """What a worker must be started with blocked, so that nothing ends it while it imports.

    A new worker would print a traceback on SIGINT, and die of SIGUSR1, which it is to ignore.
    In a stoppable launch SIGTERM stays blocked, so that a thread can wait for it whatever the
    others are in, a collective for example.
    """
    held = {signal.SIGINT, signal.SIGUSR1}
    return held | {signal.SIGTERM} if stoppable else held


def enter(job: Job[P, R]) -> R:
    """What `job.worker` returned in this process; why it failed is left in the scratch folder."""
    _end_with_parent()
    _settle_signals(job)
    _set_environment(job.environment)
    torch.set_num_threads(job.plan.threads_per_process)
    # libraries that were loaded before the variables were set, as in a copy of the command
    threadpool_limits(job.plan.threads_per_process)
    rank = int(os.environ["RANK"])
    try:
        return _work(job, rank)
    except BaseException as error:
        _record(failure_file(job.scratch, rank), error)
        if isinstance(error, RuntimeError) and job.plan.num_processes > 1:
            time.sleep(_PRECEDENCE_S)  # the peer whose loss raised this is to be found dead first
        raise


def failure_file(scratch: Path, rank: int) -> Path:
    """Where a worker that failed says why."""
    return scratch / f"failure_{rank}.json"


def _work(job: Job[P, R], rank: int) -> R:
    size = int(os.environ["WORLD_SIZE"])
    heartbeat = Heartbeat(job.scratch, rank)
    context = WorkerContext(
        rank=rank,
        size=size,
        device=_device(job.plan, int(os.environ["LOCAL_RANK"])),
        threads=job.plan.threads_per_process,
        events_file=job.events_file,
        stopping=Stopping(job.scratch, rank=rank, size=size) if job.stoppable else None,
        heartbeat=heartbeat,
    )
    backend = "cpu:gloo,cuda:nccl" if job.plan.device == "cuda" else "gloo"
    heartbeat.beat()  # who never meets the others hangs
    dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
    heartbeat.end()  # until the worker beats by itself
    result = job.worker(context, job.payload)
    context.no_more_steps()
    heartbeat.end()
    dist.destroy_process_group()
    return result


def _device(plan: ProcessPlan, local_rank: int) -> torch.device:
    if plan.device == "cpu":
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _end_with_parent() -> None:
    """A worker whose parent was killed has nobody to work for."""
    # The parent's agent thread, which lives until all workers are gone; or the fork server, which
    # the kernel kills in the same way
    die_with_parent_thread()
    parent = multiprocessing.parent_process()
    assert parent is not None
    if not parent.is_alive():  # it ended before the kernel knew
        os._exit(1)
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()


def _exit_with_parent(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _set_environment(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _settle_signals(job: Job[P, R]) -> None:
    """Let come what was held while this process imported; the parent speaks for all."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # end without a word
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    let_come = HELD - {signal.SIGTERM} if job.stoppable else HELD
    signal.pthread_sigmask(signal.SIG_UNBLOCK, let_come)
    if job.stoppable:
        threading.Thread(target=_answer_sigterm, args=(job,), daemon=True).start()


def _answer_sigterm(job: Job[P, R]) -> None:
    """End on a SIGTERM, unless it was meant for the whole job and the parent asks to stop."""
    while True:
        sender = _await_sigterm()
        # the parent asks by a file, and ends by this signal those who have lost a peer
        if sender == job.parent or not _will_be_asked_to_stop(job.scratch):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            os.kill(os.getpid(), signal.SIGTERM)


def _await_sigterm() -> int | None:
    """The process that sent it, where the system tells."""
    if hasattr(signal, "sigwaitinfo"):
        return signal.sigwaitinfo({signal.SIGTERM}).si_pid
    signal.sigwait({signal.SIGTERM})  # macOS
    return None


def _will_be_asked_to_stop(scratch: Path) -> bool:
    deadline = time.monotonic() + _PARENT_ASKS_WITHIN_S
    while time.monotonic() < deadline:
        if any(scratch.glob("failure_*.json")):
            return False
        if is_stop_requested(scratch):
            return True
        time.sleep(0.05)
    return False


def _tells_of_a_lost_peer(error: BaseException) -> bool:
    """Whether a collective failed, which says no more than that another process has ended."""
    text = str(error)
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and ("/gloo/" in text or "closed by peer" in text)
    )


def _record(path: Path, error: BaseException) -> None:
    trace = "".join(traceback.format_exception(error))
    error = out_of_memory(error) or error
    known = isinstance(error, AlignctlError)
    first_line = str(error).strip().partition("\n")[0]
    line = str(error) if known else f"{type(error).__name__}: {first_line}".removesuffix(": ")
    values = {
        "time": time.time(),
        "kind": type(error).__name__ if known else None,
        "lost_peer": _tells_of_a_lost_peer(error),
        "message": line,
        "traceback": trace,
    }
    beside = path.with_suffix(".partial")  # the parent may end us while we write
    text = json.dumps(values)
    with contextlib.suppress(OSError):  # the error itself is raised again, into stderr.log
        write_in_scratch(beside, lambda file: file.write_text(text, encoding="utf-8"))
        beside.replace(path)
