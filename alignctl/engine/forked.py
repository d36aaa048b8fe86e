"""What runs in the fork server: that it ends with its owner, and has what its children need."""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
from multiprocessing import forkserver
from typing import NoReturn

PRELOADED = "ALIGNCTL_PRELOADED_MODULES"
HELD = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP}
"""The signals that the server holds for ever, and its children until they unblock them."""
_PR_SET_PDEATHSIG = 1


def die_with_parent_thread() -> None:
    """Have the kernel kill this process when the thread that started it ends; Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


def preload() -> None:
    """Import the modules that the environment names; what fails does so in the worker again."""
    names = os.environ.pop(PRELOADED, None)
    if names is None:  # not in a server
        return
    die_with_parent_thread()
    sys.path[:] = os.environ["PYTHONPATH"].split(os.pathsep)
    for name in json.loads(names):
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def serve(listener: int, alive: int) -> NoReturn:
    """Be the server of the process that this one was forked from, and end with it.

    listener: a socket at which clients ask for a fork.
    alive: a pipe that ends when no client is left.
    """
    try:
        die_with_parent_thread()
        for number in HELD:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        _let_go_of_files(keep=(listener, alive))
        gc.freeze()  # what the owner had is not collected here, which might remove its files
        forkserver.main(listener, alive, [])
    finally:
        os._exit(0)


def _let_go_of_files(*, keep: tuple[int, ...]) -> None:
    """Put the null device in place of the owner's files, of which some are locked."""
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (closed before it is looked at)
        number = int(name)
        if number > 2 and number not in (*keep, null):
            with contextlib.suppress(OSError):
                os.fstat(number)
                os.dup2(null, number, inheritable=False)
    os.close(null)


preload()
