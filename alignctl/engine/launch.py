"""Runs one function in several torch.distributed processes of this machine."""

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from alignctl import errors
from alignctl.engine.context import WorkerContext
from alignctl.engine.events import EventFollower, Listener
from alignctl.engine.placement import ProcessPlan
from alignctl.errors import AlignctlError, LaunchError

P = TypeVar("P")
R = TypeVar("R")
_HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_PRECEDENCE_S = 0.5
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class _Job(Generic[P, R]):
    """What travels to every worker."""

    worker: Callable[[WorkerContext, P], R]
    payload: P
    plan: ProcessPlan
    events_file: Path
    scratch: Path
    parent: int


def launch(
    worker: Callable[[WorkerContext, P], R],
    payload: P,
    *,
    plan: ProcessPlan,
    events_file: Path,
    listener: Listener = lambda event: None,
) -> list[R]:
    """What `worker(context, payload)` returned in each process, in the order of ranks.

    worker: a function at the top level of a module; payload and results must pickle.
    Raises the AlignctlError that a worker raised; LaunchError where one died otherwise;
    KeyboardInterrupt on SIGINT. All processes are gone when this returns or raises.
    """
    _quieten_torch()
    with tempfile.TemporaryDirectory(prefix="alignctl-") as folder:
        scratch = Path(folder)
        job = _Job(worker, payload, plan, events_file.absolute(), scratch, os.getpid())
        with (
            _plain_signals(),
            _threads_in_environment(plan.threads_per_process),
            EventFollower(events_file, listener),
            _interrupts_held_from_new_workers(),
        ):
            try:
                results = elastic_launch(_launch_config(plan, scratch), _enter)(job)
            except ChildFailedError as error:
                raise _cause(scratch, error) from error
    return [results[rank] for rank in range(plan.num_processes)]


def _quieten_torch() -> None:
    """What torch's launcher logs about a failure reaches the user in our one line."""
    for name in logging.root.manager.loggerDict:
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _launch_config(plan: ProcessPlan, scratch: Path) -> LaunchConfig:
    # torch redirects worker output on Linux alone; elsewhere it goes to the terminal
    redirects = Std.ALL if sys.platform == "linux" else Std.NONE
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=plan.num_processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=0.05,
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(log_dir=str(scratch / "logs"), redirects=redirects),
    )


def _enter(job: _Job[P, R]) -> R:
    """The first function of every worker."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # end without a word: the parent speaks
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_exit_with_parent, args=(job.parent,), daemon=True).start()
    torch.set_num_threads(job.plan.threads_per_process)
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    try:
        context = WorkerContext(
            rank=rank,
            world_size=int(os.environ["WORLD_SIZE"]),
            device=_device(job.plan, local_rank),
            threads=job.plan.threads_per_process,
            events_file=job.events_file,
        )
        dist.init_process_group("cpu:gloo,cuda:nccl" if job.plan.device == "cuda" else "gloo")
        result = job.worker(context, job.payload)
        dist.destroy_process_group()
        return result
    except BaseException as error:
        _record(job.scratch / f"failure_{rank}.json", error)
        if isinstance(error, RuntimeError) and job.plan.num_processes > 1:
            time.sleep(_PRECEDENCE_S)  # the peer whose loss raised this is to be found dead first
        raise


def _device(plan: ProcessPlan, local_rank: int) -> torch.device:
    if plan.device == "cpu":
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _exit_with_parent(parent: int) -> None:
    """A worker whose parent was killed has nobody to work for."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _record(path: Path, error: BaseException) -> None:
    known = isinstance(error, AlignctlError)
    first_line = str(error).strip().partition("\n")[0]
    line = str(error) if known else f"{type(error).__name__}: {first_line}".removesuffix(": ")
    values = {
        "time": time.time(),
        "kind": type(error).__name__ if known else None,
        "message": line,
        "traceback": "".join(traceback.format_exception(error)),
    }
    beside = path.with_suffix(".partial")  # the parent may end us while we write
    beside.write_text(json.dumps(values), encoding="utf-8")
    beside.replace(path)


def _cause(scratch: Path, error: ChildFailedError) -> AlignctlError:
    """The failure that came first: later ones are mostly workers that lost their peer."""
    files = list(scratch.glob("failure_*.json"))
    rank, failure = error.get_first_failure()
    if scratch / f"failure_{rank}.json" not in files:  # died without a word
        code = failure.exitcode
        died = f"signal {-code} ({failure.signal_name()})" if code < 0 else f"code {code}"
        return LaunchError(f"worker {rank} died with {died}{_last_output(scratch, rank)}")
    records = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    first: dict[str, Any] = min(records, key=lambda record: record["time"])
    kind = getattr(errors, first["kind"] or "", LaunchError)
    message = first["message"] if first["kind"] else f"a worker failed: {first['message']}"
    cause: AlignctlError = kind(message)
    if hasattr(cause, "add_note"):  # Python 3.11; -v shows it
        cause.add_note(first["traceback"])
    return cause


def _last_output(scratch: Path, rank: int) -> str:
    for path in scratch.rglob(f"{rank}/stderr.log"):
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            return f": {lines[-1]}"
    return ""


@contextlib.contextmanager
def _plain_signals() -> Iterator[None]:
    """torch's launcher installs handlers that raise its own exception, and leaves them there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _HANDLED_SIGNALS}
    try:
        yield
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from error
        raise SystemExit(128 + error.sigval) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _interrupts_held_from_new_workers() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal; one that still imports would print a traceback.

    Workers inherit the mask of the thread that starts them, and lift it once they can end without
    a word. Here the signal arrives through the thread that follows the events.
    """
    resource_tracker.ensure_running()  # which would unblock the signal in the midst of it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _threads_in_environment(threads: int) -> Iterator[None]:
    """Workers read these before their first line of ours runs."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
