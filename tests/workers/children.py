"""Commands in children of a process that has imported everything: real processes, soon there.

A child has a session, streams, an exit code and signals of its own, and no thread but one. It is a
child of the tests' process, which waits for it as for any other. What is not tested by it is how
the interpreter starts: tests of that start one.
"""

import atexit
import base64
import contextlib
import ctypes
import functools
import gc
import importlib
import io
import json
import os
import pickle
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.01
_ONE_ASKS = threading.Lock()


class Child:
    """A process that runs, or has run; what it writes goes to files."""

    def __init__(self, **request):
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        self._texts = None
        request |= {"affinity": sorted(os.sched_getaffinity(0)), "path": sys.path}
        self.returncode = None
        self.pid = _ask(request, [file.fileno() for file in self._files])

    def poll(self):
        """The exit code once it has ended, as subprocess has it."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout):
        """The exit code, or None if it has not ended after so many seconds."""
        deadline = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        return self.returncode

    def communicate(self, timeout=170):
        """(standard output, standard error) once it has ended; killed if it takes too long."""
        if self.wait(timeout) is None:
            self.kill()
            raise TimeoutError(f"a command took more than {timeout} s")
        if self._texts is None:
            self._texts = tuple(map(_read_and_close, self._files))
        return self._texts

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _read_and_close(file):
    with file:
        file.seek(0)
        return file.read().decode()


def start(folder, *words, environment=None, largest_file=None):
    """`alignctl WORDS` in a folder, in a session of its own.

    environment: this process's unless given; largest_file: in bytes, no limit unless given.
    """
    environment = dict(os.environ) if environment is None else environment
    return Child(
        words=list(map(str, words)),
        cwd=str(folder),
        environment=environment,
        largest_file=largest_file,
    )


def run(folder, *words, **options):
    """How `alignctl WORDS` ended, as subprocess has it."""
    child = start(folder, *words, **options)
    stdout, stderr = child.communicate()
    return subprocess.CompletedProcess(words, child.returncode, stdout, stderr)


def call(function, *arguments, environment=None):
    """A function at the top level of a module, with arguments that pickle."""
    environment = dict(os.environ) if environment is None else environment
    pickled = base64.b64encode(pickle.dumps((function, arguments))).decode()
    return Child(pickled=pickled, cwd=str(Path.cwd()), environment=environment)


def _ask(request, files):
    """The id of the process that the server forked."""
    data = json.dumps(request).encode()
    with _ONE_ASKS:
        line, _ = _server()
        socket.send_fds(line, [len(data).to_bytes(8, "big")], files)
        line.sendall(data)
        return int.from_bytes(_receive(line, 8), "big")


def _receive(line, size):
    data = b""
    while len(data) < size:
        more = line.recv(size - len(data))
        if not more:
            raise EOFError("the server of children has ended")
        data += more
    return data


@functools.cache
def _server():
    """The line to the server, and the server, which is started once and ends with this process."""
    if sys.platform != "linux":
        pytest.skip("needs a system that hands orphans to an ancestor")
    # orphans become this process's children, so that it can wait for them
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    ours, its = socket.socketpair()
    paths = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [sys.executable, __file__, str(its.fileno())],
        pass_fds=[its.fileno()], stdin=subprocess.DEVNULL,
        # a library that has threads of its own could not be forked
        env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    its.close()
    atexit.register(_end, ours, process)
    return ours, process


def _end(line, process):
    line.close()  # after which there is nothing to be served
    process.wait()


def _serve(line):
    _import_everything()
    gc.freeze()
    while True:
        try:
            head, files, _, _ = socket.recv_fds(line, 8, 2)
        except ConnectionError:
            return
        if not head:
            return
        size = int.from_bytes(head + _receive(line, 8 - len(head)), "big")
        request = json.loads(_receive(line, size))
        reader, writer = os.pipe()
        between = os.fork()
        if between == 0:
            if os.fork() == 0:
                os.write(writer, os.getpid().to_bytes(8, "big"))
                line.close()
                _run(request, files)
            os._exit(0)
        os.waitpid(between, 0)  # before the child is told of, which so has another parent
        line.sendall(os.read(reader, 8))
        for file in (reader, writer, *files):
            os.close(file)


def _import_everything():
    import alignctl

    for module in pkgutil.walk_packages(alignctl.__path__, "alignctl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in (
        "pyarrow.parquet",
        "sklearn.datasets",
        "scipy.stats",
        "torch.distributed.device_mesh",
    ):
        importlib.import_module(name)


def _run(request, files):
    """Become the command, and end as an interpreter ends."""
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for number, file in enumerate((null, *files)):
            os.dup2(file, number)
        os.closerange(3, 256)
        os.sched_setaffinity(0, request["affinity"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])
        sys.path[:], tempfile.tempdir = request["path"], None
        if request.get("largest_file") is not None:
            _limit_files(request["largest_file"])
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True
        )
        if "pickled" in request:
            function, arguments = pickle.loads(base64.b64decode(request["pickled"]))
            code = _exit_code(lambda: function(*arguments))
        else:
            from alignctl.cli.app import main

            sys.argv = ["alignctl", *request["words"]]
            code = _exit_code(main)
    finally:
        os._exit(code)


def _limit_files(size):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _exit_code(main):
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return code


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
