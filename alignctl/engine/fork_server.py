"""The process that workers are forked from, which has imported what they need.

Python's own fork server, started once for as long as this process lives. It computes nothing, has
one thread and never touches a GPU, so that whatever is forked from it may do all of that. A command
that has no other threads either forks its server, which then has all that the command imported;
otherwise it is a new process that imports it. Workers for GPUs are spawned, and so is everything on
systems other than Linux.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import connection, forkserver, resource_tracker, util
from pathlib import Path
from typing import Any, Literal

import torch.distributed as dist

from alignctl.engine.forked import HELD, PRELOADED, serve
from alignctl.engine.own_process import runs_a_command
from alignctl.engine.placement import DeviceType

StartMethod = Literal["spawn", "forkserver"]

# Libraries read these when they are loaded or first used, which in the server is once for all
_READ_ONCE = (
    "ATEN_", "CUDA_", "DNNL_", "GLIBC_", "GOMP_", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_",
    "ONEDNN_", "OPENBLAS_", "PYTHON", "PYTORCH_", "TORCH_", "TIMM_",
)  # fmt: skip


@dataclass(frozen=True)
class Started:
    """How a launch starts its workers."""

    method: StartMethod
    changes: Mapping[str, str | None]
    """Variables that workers set, or remove, for the server was started without them."""


_LOOKS, _LOOK_S = 100, 0.005
# pyarrow's allocator has a thread, whose locks it takes before a fork and gives back after it
_FORK_AWARE = ("jemalloc_bg_thd",)
_PATHS = ("PYTHONPATH", "PYTHONSAFEPATH")

_environment: dict[str, str] = {}  # of the server that was started last
_ours: tuple[int, int | None] | None = None  # this process and that, for others may start one too


def start_server(module: str, device: DeviceType) -> Started:
    """Have a server that has imported what workers need, where there may be one.

    module: the name of the module whose function workers call.
    To be called in the main thread if it is to start a server: the server ends with its thread.
    """
    if sys.platform != "linux" or device != "cpu" or not (_serves() or _starts(module)):
        return Started("spawn", {})
    return Started("forkserver", _changes())


def _starts(module: str) -> bool:
    """Whether a server could be started."""
    if _pid() is not None and not _is_ours():  # others need it as it is
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    stop_server()
    try:
        _start(_modules_to_preload(module))
    except OSError:  # no room for its socket, a path too long for one
        return False
    return True


def stop_server() -> None:
    """End the server, and with it all that was forked from it; the next launch starts another."""
    pid = _pid()
    if pid is None or not _is_ours():
        return
    server = _server()
    with server._lock:
        os.kill(pid, signal.SIGKILL)  # a zombie at least, for nobody else waits for it
        os.waitpid(pid, 0)
        os.close(server._forkserver_alive_fd)
        server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None


def _pid() -> int | None:
    pid: int | None = _server()._forkserver_pid
    return pid


def _is_ours() -> bool:
    return _ours == (os.getpid(), _pid())


def _server() -> Any:
    """Python's own object for the server, whose public functions cannot stop it."""
    return forkserver._forkserver


def _serves() -> bool:
    """Whether our server is alive and libraries in it have read the variables of today."""
    pid = _pid()
    if pid is None or not _is_ours():
        return False
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):  # it has ended
        return False
    if not Path(_server()._forkserver_address).exists():  # a cleaner of temporary files removed it
        return False
    return not any(name.startswith(_READ_ONCE) and name not in _PATHS for name in _changes())


def _start(modules: list[str]) -> None:
    # a process that is started here inherits the blocked signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGHUP})
    resource_tracker.ensure_running()  # it lets come what it ignores by itself: SIGINT, SIGTERM
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    global _ours  # noqa: PLW0603
    try:
        if not (_may_fork() and _fork()):
            _spawn(modules)
        _ours = os.getpid(), _pid()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _spawn(modules: list[str]) -> None:
    """Start a new process, which imports these modules."""
    own, preloaded = dict(os.environ), _server()._preload_modules
    _environment.clear()
    _environment.update(_server_environment())
    try:
        os.environ.update(_environment)
        os.environ[PRELOADED] = json.dumps(modules)
        forkserver.set_forkserver_preload(["alignctl.engine.forked"])
        forkserver.ensure_running()
    finally:
        forkserver.set_forkserver_preload(preloaded)
        for name in (PRELOADED, *_environment.keys() - own.keys()):
            os.environ.pop(name, None)
        os.environ.update(own)


def _may_fork() -> bool:
    """Whether this process may be the server's parent by a fork, unless it has other threads."""
    # from Python 3.14 on a fork server asks its clients for a key, which a copy does not have
    alone = threading.active_count() == 1
    return alone and runs_a_command() and not dist.is_initialized() and sys.version_info < (3, 14)


def _fork() -> bool:
    """Make a server of a copy of this process, if no other thread of it can have held a lock."""
    util._flush_std_streams()  # type: ignore[attr-defined]  # what is there is written once
    address = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
    with socket.socket(socket.AF_UNIX) as listener, warnings.catch_warnings():
        listener.bind(address)
        Path(address).chmod(0o600)
        listener.listen()
        alive_r, alive_w = os.pipe()
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads, which are looked for
        pid = os.fork()
        if pid == 0:
            serve(listener.fileno(), alive_r)
    os.close(alive_r)
    if not _has_one_thread():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(alive_w)
        Path(address).unlink()
        return False
    _environment.clear()
    _environment.update(os.environ)
    server = _server()
    server._forkserver_address, server._forkserver_alive_fd = address, alive_w
    server._forkserver_pid = pid
    return True


def _has_one_thread() -> bool:
    """Whether this process has one thread, not counting those that handle forks themselves.

    OpenBLAS ends its threads before a fork, and they may take a moment to be gone.
    """
    for _ in range(_LOOKS):
        if len([name for name in _thread_names() if name not in _FORK_AWARE]) == 1:
            return True
        time.sleep(_LOOK_S)
    return False


def _thread_names() -> Iterator[str]:
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # gone meanwhile
            yield (thread / "comm").read_text().strip()


def _modules_to_preload(module: str) -> list[str]:
    """The modules of alignctl that this process has imported, and the module of the worker."""
    own = (name for name in sys.modules if name.startswith("alignctl."))
    named = {name for name in (*own, module) if not name.endswith("__main__")}
    return sorted(named)


def _server_environment() -> dict[str, str]:
    """This process's variables, with the paths from which it imports."""
    paths = os.pathsep.join(path for path in sys.path if path)
    # Python 3.11: nothing is imported from the current folder unless it is among the paths
    return {**os.environ, **dict(zip(_PATHS, (paths, "1"), strict=True))}


def _changes() -> dict[str, str | None]:
    names = os.environ.keys() | _environment.keys()
    return {
        name: os.environ.get(name)
        for name in names
        if os.environ.get(name) != _environment.get(name)
    }
