"""Runs one function in several torch.distributed processes of this machine."""

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from alignctl import errors
from alignctl.engine.context import WorkerContext
from alignctl.engine.events import EventFollower, Listener, ignore
from alignctl.engine.fork_server import StartMethod, start_server, stop_server
from alignctl.engine.heartbeat import HeartbeatMonitor
from alignctl.engine.loopback import ADDRESS, check_address, check_semaphores, worker_environment
from alignctl.engine.placement import ProcessPlan
from alignctl.engine.signals import SignalsHeard
from alignctl.engine.stopping import request_stop
from alignctl.engine.streams import open_closed_streams
from alignctl.engine.worker import Job, enter, failure_file, held_signals
from alignctl.errors import AlignctlError, LaunchError

P = TypeVar("P")
R = TypeVar("R")
_LOOK_S = 0.05
_OWN_SIGNAL_WITHIN_S = 1.0
_KILLED_WITHIN_S = 30.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def launch(
    worker: Callable[[WorkerContext, P], R],
    payload: P,
    *,
    plan: ProcessPlan,
    events_file: Path,
    listener: Listener = ignore,
    stoppable: bool = False,
    timeout_s: float = 1800.0,
) -> list[R]:
    """What `worker(context, payload)` returned in each process, in the order of ranks.

    worker: a function at the top level of a module; payload and results must pickle.
    stoppable: on SIGTERM or SIGUSR1 `context.stops_before` tells the workers to stop, and what
    they then return is returned; otherwise they are killed.
    timeout_s: a worker that has begun to beat, and neither beats nor waits for others for so long,
    counts as hung.

    Raises the AlignctlError that a worker raised; LaunchError where one died otherwise, or hangs;
    PreemptedError on SIGTERM or SIGUSR1 where not stoppable; KeyboardInterrupt on SIGINT.
    All processes are gone when this returns or raises.
    """
    _quieten_torch()
    open_closed_streams()
    with (
        SignalsHeard(stoppable=stoppable) as heard,
        tempfile.TemporaryDirectory(prefix="alignctl-") as folder,
    ):
        scratch = Path(folder)
        with _environment_of_workers(plan):
            started = start_server(worker.__module__, plan.device)
            job = Job(
                worker, payload, plan, events_file.absolute(), scratch, os.getpid(), stoppable,
                started.changes,
            )  # fmt: skip
            with EventFollower(events_file, listener), _Agent(job, started.method) as agent:
                _supervise(agent, heard, job, timeout_s=timeout_s)
        return agent.results()


def _supervise(
    agent: "_Agent[P, R]", heard: SignalsHeard, job: Job[P, R], *, timeout_s: float
) -> None:
    """Return once the workers have ended, or are to be ended; LaunchError where one hangs."""
    heartbeats = HeartbeatMonitor(job.scratch, job.plan.num_processes, timeout_s=timeout_s)
    while not agent.ends_within(_LOOK_S):
        if heard.ends_at_once:
            return
        if heard.is_preempted:
            request_stop(job.scratch)
        rank = heartbeats.hung()
        if rank is not None:
            raise LaunchError(
                f"worker {rank} has made no progress for {timeout_s:g} s: it hangs; see --timeout"
            )
    deadline = time.monotonic() + _OWN_SIGNAL_WITHIN_S
    while agent.lost_a_worker_to_a_signal and not heard and time.monotonic() < deadline:
        time.sleep(_LOOK_S)  # sent to every process, it may reach this one last


class _Agent(Generic[P, R]):
    """torch's elastic agent at work in a thread; no process of it is left when this closes.

    Outside the main thread it installs no signal handlers, which would raise in the midst of it.
    """

    def __init__(self, job: Job[P, R], start_method: StartMethod) -> None:
        self._job, self._start_method = job, start_method
        self._others = set(multiprocessing.active_children())
        self._results: dict[int, R] = {}
        self._error: BaseException | None = None
        self._had_workers = False
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)

    def __enter__(self) -> "_Agent[P, R]":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        while self._thread.is_alive():
            # again and again, for the thread may be starting more
            if not self._kill() and not self._had_workers:
                stop_server()  # the thread may be waiting for it to import everything
            self._thread.join(_LOOK_S)
        deadline = time.monotonic() + _KILLED_WITHIN_S  # a process may hang within the kernel
        while self._kill() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)

    def ends_within(self, seconds: float) -> bool:
        """Whether the work has ended, well or not, after waiting for it."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def lost_a_worker_to_a_signal(self) -> bool:
        """Whether the work ended because a worker was told to end, and not by this process."""
        if not isinstance(self._error, ChildFailedError):
            return False
        exit_code = self._error.get_first_failure()[1].exitcode
        return exit_code in (-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP)

    def results(self) -> list[R]:
        """What the workers returned, in the order of ranks; what made them fail is raised."""
        if isinstance(self._error, ChildFailedError):
            raise _cause(self._job.scratch, self._error) from self._error
        if isinstance(self._error, (OSError, EOFError, RendezvousError, dist.DistError)):
            reason = str(self._error).strip().partition("\n")[0]
            raise LaunchError(f"processes cannot be started: {reason}") from self._error
        if self._error is not None:
            raise self._error
        return [self._results[rank] for rank in range(self._job.plan.num_processes)]

    def _run(self) -> None:
        try:
            _hold_signals(stoppable=self._job.stoppable)
            check_address()
            check_semaphores()
            config = _launch_config(self._job.plan, self._job.scratch, self._start_method)
            self._results = elastic_launch(config, enter)(self._job)
        except BaseException as error:
            self._error = error

    def _kill(self) -> list[BaseProcess]:
        """The workers that were alive just now."""
        workers = [one for one in multiprocessing.active_children() if one not in self._others]
        for worker in workers:
            worker.kill()
            self._had_workers = True
        return workers


def _hold_signals(*, stoppable: bool) -> None:
    """Workers inherit the mask of the thread that starts them, which is this one.

    So does the resource tracker, which ignores SIGINT and SIGTERM by itself and is to outlive the
    others that reach a whole job.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGHUP})
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask | held_signals(stoppable=stoppable))


def _quieten_torch() -> None:
    """What torch's launcher logs about a failure reaches the user in our one line."""
    for name in logging.root.manager.loggerDict:
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _launch_config(plan: ProcessPlan, scratch: Path, start_method: StartMethod) -> LaunchConfig:
    # torch redirects worker output on Linux alone; elsewhere it goes to the terminal
    redirects = Std.ALL if sys.platform == "linux" else Std.NONE
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=plan.num_processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=f"{ADDRESS}:0",
        local_addr=ADDRESS,
        max_restarts=0,
        monitor_interval=0.05,
        start_method=start_method,
        logs_specs=DefaultLogsSpecs(log_dir=str(scratch / "logs"), redirects=redirects),
    )


def _cause(scratch: Path, error: ChildFailedError) -> AlignctlError:
    """The failure that came first, of those that are no mere loss of a peer that failed."""
    files = list(scratch.glob("failure_*.json"))
    rank, failure = error.get_first_failure()
    if failure_file(scratch, rank) not in files:  # died without a word
        code = failure.exitcode
        died = f"signal {-code} ({failure.signal_name()})" if code < 0 else f"code {code}"
        return LaunchError(f"worker {rank} died with {died}{_last_output(scratch, rank)}")
    records = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    first: dict[str, Any] = min(records, key=lambda each: (each["lost_peer"], each["time"]))
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
def _environment_of_workers(plan: ProcessPlan) -> Iterator[None]:
    """Workers read these before their first line of ours runs."""
    threads = dict.fromkeys(_THREAD_VARIABLES, str(plan.threads_per_process))
    changes = {**threads, **worker_environment()}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
