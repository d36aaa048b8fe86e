"""Processes of the tests of the engine: who lives, and a launch in a session of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import children
import engine_workers
import pytest

from alignctl.engine.launch import launch
from alignctl.engine.placement import ProcessPlan

TWO = ProcessPlan(2, 1, "cpu")
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").is_file(), reason="looks for processes under /proc"
)


def launch_two(worker, folder, **options):
    return launch(worker, folder, plan=TWO, events_file=folder / "events.jsonl", **options)


def lives(pid: int) -> bool:
    """Whether a process runs; a zombie, which nobody has asked about yet, does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return not stat.is_file() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False  # gone meanwhile


def noted_pids(folder) -> list[int]:
    return [int((folder / f"{rank}.pid").read_text()) for rank in (0, 1)]


def living_in_session(session: int) -> list[int]:
    """The processes that a child started with start_new_session left behind, with itself."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = stat.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # gone meanwhile
        if int(number) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until_gone(session: int) -> None:
    deadline = time.monotonic() + 60
    while living_in_session(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert living_in_session(session) == []


class Session:
    """A process in a session of its own that launches two workers, as a command would.

    fresh: it starts an interpreter, and imports all by itself.
    """

    def __init__(self, folder, worker, *options, fresh=False, **environment):
        self.folder, self.scratch = folder, folder / "tmp"
        self.scratch.mkdir()
        words = [str(folder), worker, *options]
        environment = {**os.environ, "TMPDIR": str(self.scratch), **environment}
        if fresh:
            path = os.pathsep.join(filter(None, sys.path))
            self._process = subprocess.Popen(
                [sys.executable, engine_workers.__file__, *words],
                stderr=subprocess.PIPE,
                text=True,
                env={**environment, "PYTHONPATH": path},
                start_new_session=True,
            )
        else:
            self._process = children.call(engine_workers.main, words, environment=environment)
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()
        for pid in living_in_session(self.pid):
            os.kill(pid, signal.SIGKILL)

    def wait_for(self, pattern: str, *, number: int = 1) -> None:
        """Until so many files under the folder match."""
        while len(list(self.folder.glob(pattern))) < number:
            assert self._process.poll() is None, self._process.communicate()
            time.sleep(0.02)

    def wait_for_workers(self) -> list[int]:
        """The workers, once they have begun."""
        self.wait_for("*.pid", number=2)
        return noted_pids(self.folder)

    def send(self, *numbers: int) -> None:
        """To every process, as a terminal and a scheduler do."""
        for number in numbers:
            os.killpg(self.pid, number)

    def terminate(self) -> None:
        """Ask the launching process alone."""
        self._process.terminate()

    def results(self) -> list:
        """What the workers returned."""
        return json.loads((self.folder / "results.json").read_text())

    def end(self) -> tuple[int, str]:
        """(exit code, what was written to stderr); all processes of it are gone."""
        _, errors = self._process.communicate(timeout=60)
        wait_until_gone(self.pid)
        return self._process.returncode, errors

    def kill(self) -> None:
        self._process.kill()
