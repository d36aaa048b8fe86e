"""How all workers of a launch agree on one step before which they stop.

Nothing is sent, and nobody waits, until the parent asks by a file. Then each worker publishes the
first step that it has not begun, and begins no other before all have published: all stop before
the highest of these. So a worker that is ahead never has to go back, and a worker that waits
within a step for its peers gets them, for they all take that step. A thread publishes, for the
main thread may be just there. The last word of a worker that has no more steps stays true. What was
published is published again where somebody removed it.
"""

import contextlib
import threading
import time
from pathlib import Path

from alignctl.engine.scratch import write_in_scratch

_POLL_S = 0.1
_AGREEMENT_POLL_S = 0.02
_POLLS_AFTER_AGREEMENT = 600
_NO_STEP = -1


def request_stop(folder: Path) -> None:
    """Ask all workers whose `Stopping` watches this folder to stop."""
    with contextlib.suppress(OSError):  # a disk may be full: whoever asks asks again
        write_in_scratch(_marker(folder), Path.touch)


def is_stop_requested(folder: Path) -> bool:
    """Whether the workers were asked to stop."""
    return _marker(folder).exists()


def _marker(folder: Path) -> Path:
    return folder / "stop"


class Stopping:
    """One worker's part in the agreement; steps are numbered from 0 or higher, ascending.

    folder: shared by the workers of a launch, and theirs alone.
    """

    def __init__(self, folder: Path, *, rank: int, size: int) -> None:
        self._folder = folder
        self._file = _published(folder, rank)
        self._files = [_published(folder, other) for other in range(size)]
        self._changed = threading.Condition()
        self._not_begun: int | None = None
        self._is_requested = is_stop_requested(folder)
        self._published: int | None = None
        self._agreed: int | None = None
        threading.Thread(target=self._watch, name="stopping", daemon=True).start()

    def begins(self, step: int) -> bool:
        """Whether `step` begins right now, because nothing was asked; see `agreed_step` if not."""
        with self._changed:
            if self._is_requested:
                return False
            self._not_begun = step + 1
            return True

    def agreed_step(self, step: int) -> int:
        """The step before which every worker stops, once all have published.

        step: the step that this worker has come to and not begun.
        """
        with self._changed:
            self._publish(step)
            while self._agreed is None:
                self._changed.wait()
            return self._agreed

    def no_more_steps(self) -> None:
        """Let the others agree without this worker, which will begin no other step."""
        with self._changed:
            self._publish(_NO_STEP if self._not_begun is None else self._not_begun)

    def _watch(self) -> None:
        while not is_stop_requested(self._folder):
            time.sleep(_POLL_S)
        with self._changed:
            self._is_requested = True
            if self._not_begun is not None:
                self._publish(self._not_begun)
        while (agreed := self._highest()) is None:
            time.sleep(_AGREEMENT_POLL_S)
            self._publish_again()
        with self._changed:
            self._agreed = agreed
            self._changed.notify_all()
        for _ in range(_POLLS_AFTER_AGREEMENT):  # others may not have read it yet
            time.sleep(_POLL_S)
            self._publish_again()

    def _publish(self, step: int) -> None:
        """Write the first number; called with the lock held, so that no step begins meanwhile."""
        if self._published is None:
            self._published = step
            while not self._write(step):  # a full disk: the others wait until there is room
                time.sleep(_POLL_S)

    def _publish_again(self) -> None:
        with self._changed:
            if self._published is not None and not self._file.exists():
                self._write(self._published)

    def _write(self, step: int) -> bool:
        """Whether the number could be written."""
        beside = self._file.with_suffix(".partial")
        try:
            write_in_scratch(beside, lambda path: path.write_text(str(step), encoding="ascii"))
            beside.replace(self._file)
        except OSError:
            return False
        return True

    def _highest(self) -> int | None:
        try:
            return max(int(file.read_text(encoding="ascii")) for file in self._files)
        except OSError:  # not all have published
            return None


def _published(folder: Path, rank: int) -> Path:
    return folder / f"not_begun_{rank}"
