"""Signs of life: a worker touches a file while it works, the parent misses a change of it.

While a worker waits for others there is another file in its place, so that files which somebody
else removed, as a cleaner of temporary files does, are not taken for a wait.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from alignctl.engine.scratch import write_in_scratch

_BEAT_EVERY_S = 0.2
_LONGEST_LOOK_S = 1.0


class Heartbeat:
    """One worker's file, there from the first beat on and away while it waits for others."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._path, self._waits = _files(folder, rank)
        self._last: float | None = None
        self._paused = False

    def beat(self) -> None:
        """Say that the work goes on; costs a few microseconds, so every step may."""
        now = time.monotonic()
        if self._paused or (self._last is not None and now - self._last < _BEAT_EVERY_S):
            return
        self._last = now
        with contextlib.suppress(OSError):  # a full disk is no reason to end the work
            write_in_scratch(self._path, Path.touch)
            self._waits.unlink(missing_ok=True)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is missed while this is open, however long; as before once it is closed."""
        if self._paused or self._last is None:
            yield
            return
        self.end()
        self._paused = True
        try:
            yield
        finally:
            self._paused, self._last = False, None
            self.beat()

    def end(self) -> None:
        """Nothing is missed from now on, until the next beat."""
        self._last = None
        with contextlib.suppress(OSError):
            write_in_scratch(self._waits, Path.touch)
            self._path.unlink(missing_ok=True)


class HeartbeatMonitor:
    """The parent's view of all workers' heartbeats."""

    def __init__(self, folder: Path, num_workers: int, *, timeout_s: float) -> None:
        self._files = [_files(folder, rank) for rank in range(num_workers)]
        self._timeout_s = timeout_s
        self._seen: list[int | None] = [None] * num_workers
        self._silent_s = [0.0] * num_workers
        self._looked = time.monotonic()

    def hung(self) -> int | None:
        """The worker that has been silent longest, if for longer than the timeout.

        To be called again and again: only time in which this process was looking counts, so that
        neither a job stopped and continued nor a machine that slept is taken for a hang.
        """
        now = time.monotonic()
        elapsed, self._looked = min(now - self._looked, _LONGEST_LOOK_S), now
        for rank, (file, waits) in enumerate(self._files):
            beat = None if waits.exists() else _last_beat(file) or self._seen[rank]
            if beat is None or beat != self._seen[rank]:
                self._silent_s[rank] = 0.0
            else:
                self._silent_s[rank] += elapsed
            self._seen[rank] = beat
        longest = max(self._silent_s)
        return self._silent_s.index(longest) if longest > self._timeout_s else None


def _files(folder: Path, rank: int) -> tuple[Path, Path]:
    """Touched by a worker that works; there while it waits."""
    return folder / f"alive_{rank}", folder / f"waits_{rank}"


def _last_beat(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None
