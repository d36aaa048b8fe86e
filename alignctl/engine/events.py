"""The event stream of a launch: worker 0 appends JSON lines, the parent process follows them."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignctl.errors import CheckpointError

Event = dict[str, Any]
Listener = Callable[[Event], None]
_POLL_S = 0.1


def ignore(event: Event) -> None:
    """The listener that does nothing."""


def notice(text: str) -> Event:
    """An event of what somebody should know before reading results."""
    return {"event": "notice", "text": text}


def warning(text: str) -> Event:
    """An event of something that does not stop the work, but that results have to be read with."""
    return {"event": "warning", "text": text}


def append_event(path: Path, kind: str, **fields: Any) -> None:
    """Add one line, by a single write; a line that a killed process left half is closed first.

    Raises CheckpointError where the disk refuses.
    """
    line = json.dumps({"event": kind, "time": round(time.time(), 3), **fields}) + "\n"
    try:
        with path.open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from error


class EventFollower:
    """Calls a listener, from a thread of its own, for every event added while it is open."""

    def __init__(self, path: Path, listener: Listener) -> None:
        self._path, self._listener = path, listener
        self._offset = path.stat().st_size if path.is_file() else 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="events", daemon=True)

    def __enter__(self) -> "EventFollower":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._deliver()

    def _follow(self) -> None:
        while not self._done.wait(_POLL_S):
            self._deliver()

    def _deliver(self) -> None:
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            try:
                event: Event = json.loads(line)
            except ValueError:  # what a killed process left half
                continue
            self._listener(event)
