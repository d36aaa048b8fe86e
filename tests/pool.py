"""gloo processes for tests that want several but do not test how they are launched.

As a script it is the server: it has imported torch once, and forks the processes of each task. So
a task starts in milliseconds, and in a state that no task before it has changed.
"""

import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

PRELOADED = (
    "torch.distributed.device_mesh", "alignctl.engine.context", "alignctl.training.trainer",
    "alignctl.evaluators.alignment",
)  # fmt: skip
PEER_GRACE_S = 5.0
"""How long the others may still work when one has failed: enough to find their peer lost."""


class PoolError(Exception):
    """A task whose processes ended without a result."""


class Pool:
    """Runs a function in several processes that are one gloo group."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[str] | None = None
        self._num_tasks = 0

    @property
    def pid(self) -> int | None:
        """The process that is the parent of all those of the last task."""
        return self._server and self._server.pid

    def launch(
        self,
        function: Callable[..., Any],
        payload: Any,
        *,
        size: int,
        events_file: Path | None = None,
        timeout_s: float = 120.0,
    ) -> list[Any]:
        """What `function(context, payload)` returned in each process, in the order of ranks.

        function: at the top level of a module that our sys.path finds.

        Raises what a process raised: of several the first, but rather another error than one that
        only reports a lost peer. PoolError where one died otherwise, or where some have no result
        after `timeout_s`.
        """
        self._num_tasks += 1
        folder = self._folder / str(self._num_tasks)
        folder.mkdir()
        call = pickle.dumps((function, payload))
        events_file = events_file or folder / "events.jsonl"
        (folder / "task").write_bytes(pickle.dumps((sys.path, call, size, events_file)))
        try:
            exit_codes = self._ask({"folder": str(folder), "size": size, "timeout_s": timeout_s})
        except BaseException:  # as when the test is interrupted
            self.close()
            raise
        return _results(folder, exit_codes)

    def close(self) -> None:
        """End the server and all its processes; the next task starts another."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.communicate()
            self._server = None

    def _ask(self, task: dict[str, Any]) -> list[int | None]:
        if self._server is None or self._server.poll() is not None:
            self._server = _start()
        assert self._server.stdin is not None and self._server.stdout is not None
        print(json.dumps(task), file=self._server.stdin, flush=True)
        answer = self._server.stdout.readline()
        if not answer:
            raise PoolError("the server of the pool has died")
        codes: list[int | None] = json.loads(answer)
        return codes


def _start() -> "subprocess.Popen[str]":
    from alignctl.engine.loopback import worker_environment

    paths = os.pathsep.join(filter(None, sys.path))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **worker_environment(), **threads, "PYTHONPATH": paths},
    )


def _results(folder: Path, exit_codes: list[int | None]) -> list[Any]:
    """exit_codes: by rank; None for a process that had to be killed."""
    files = [folder / f"{rank}.result" for rank in range(len(exit_codes))]
    answers = [pickle.loads(file.read_bytes()) for file in files if file.is_file()]
    failures = [answer for answer in answers if "error" in answer]
    told = [failure for failure in failures if not failure["lost_peer"]]
    dead = {r: exit_codes[r] for r, file in enumerate(files) if not file.is_file()}
    if told or (failures and not any(dead.values())):
        first = min(told or failures, key=lambda failure: failure["time"])
        raise first["error"] from PoolError(first["traceback"])
    if any(dead.values()):
        raise PoolError(f"processes died; exit codes by rank: {dead}")
    if dead:
        raise PoolError(f"processes without a result, killed after the time limit: {list(dead)}")
    return [answer["result"] for answer in answers]


def _serve() -> None:
    for module in PRELOADED:
        importlib.import_module(module)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what processes print is no answer
    for line in sys.stdin:
        task = json.loads(line)
        codes = _fork(Path(task["folder"]), task["size"], time.monotonic() + task["timeout_s"])
        print(json.dumps(codes), file=answers, flush=True)


def _fork(folder: Path, size: int, deadline: float) -> list[int | None]:
    """Exit codes of the processes of a task, all of which have ended; None for those killed."""
    running: dict[int, int] = {}
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            _work(folder, rank)
        running[pid] = rank
    codes: list[int | None] = [None] * size
    while running and time.monotonic() < deadline:
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)
                deadline = min(deadline, time.monotonic() + PEER_GRACE_S) if code else deadline
        time.sleep(0.002)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return codes


def _work(folder: Path, rank: int) -> None:
    """Leave a result or an error in the task's folder, and end this process."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        try:
            answer, code = pickle.dumps({"result": _call(folder, rank)}), 0
        except Exception as error:
            answer = _failure(error)
        partial = folder / f"{rank}.partial"
        partial.write_bytes(answer)
        partial.rename(folder / f"{rank}.result")
    finally:
        os._exit(code)  # nothing that the server has registered for its own end


def _failure(error: Exception) -> bytes:
    import torch.distributed as dist

    answer: dict[str, Any] = {"time": time.time(), "traceback": traceback.format_exc()}
    lost = isinstance(error, RuntimeError) and ("/gloo/" in str(error) or "peer" in str(error))
    answer["lost_peer"] = lost or isinstance(error, dist.DistError)
    try:
        packed = pickle.dumps({"error": error, **answer})
        pickle.loads(packed)
    except Exception:
        text = f"{type(error).__name__}: {error}"
        packed = pickle.dumps({"error": RuntimeError(text), **answer})
    return packed


def _call(folder: Path, rank: int) -> Any:
    import torch
    import torch.distributed as dist

    from alignctl.engine.context import WorkerContext

    sys.path[:], call, size, events_file = pickle.loads((folder / "task").read_bytes())
    function, payload = pickle.loads(call)
    torch.set_num_threads(1)
    context = WorkerContext(
        rank=rank, size=size, device=torch.device("cpu"), threads=1, events_file=events_file
    )
    store = dist.FileStore(str(folder / "store"), size)
    limit = timedelta(minutes=10)  # the server ends what hangs
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=limit)
    result = function(context, payload)
    dist.destroy_process_group()
    return result


if __name__ == "__main__":
    _serve()
