"""What the launching process hears while its workers run."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from alignctl.errors import PreemptedError

_PREEMPTIONS = (signal.SIGTERM, signal.SIGUSR1)  # as schedulers send them before they kill
_HEARD = (signal.SIGINT, signal.SIGHUP, *_PREEMPTIONS)


@contextlib.contextmanager
def preemption_is_an_error() -> Iterator[None]:
    """While this is open, SIGTERM and SIGUSR1 raise PreemptedError wherever this process is.

    A launch hears them by itself. Outside the main thread nothing is heard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise PreemptedError(_reason(number))

    before = {number: signal.signal(number, stop) for number in _PREEMPTIONS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _reason(number: int) -> str:
    name = signal.Signals(number).name
    return f"stopped by {name} before the end; run the same command again"


class SignalsHeard:
    """Remembers signals while it is open, and raises what they mean when it closes.

    SIGINT is a KeyboardInterrupt and SIGHUP a SystemExit. SIGTERM and SIGUSR1 are a PreemptedError,
    or nothing in a stoppable launch, which ends well and whose results tell. Outside the main
    thread nothing is heard. The handlers from before are put back.
    """

    def __init__(self, *, stoppable: bool) -> None:
        self._stoppable = stoppable
        self._numbers: set[int] = set()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "SignalsHeard":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in _HEARD}
            if self._before[signal.SIGHUP] == signal.SIG_IGN:
                del self._before[signal.SIGHUP]  # nohup
            for number in self._before:
                signal.signal(number, lambda heard, frame: self._numbers.add(heard))
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if signal.SIGINT in self._numbers:
            raise KeyboardInterrupt
        if signal.SIGHUP in self._numbers:
            raise SystemExit(128 + signal.SIGHUP)
        if self.is_preempted and not self._stoppable:
            raise PreemptedError(_reason(min(self._numbers.intersection(_PREEMPTIONS))))

    def __bool__(self) -> bool:
        return bool(self._numbers)

    @property
    def is_preempted(self) -> bool:
        """Whether someone wants the work to end in order."""
        return not self._numbers.isdisjoint(_PREEMPTIONS)

    @property
    def ends_at_once(self) -> bool:
        """Whether the workers are to be killed."""
        only_preempted = self._numbers.issubset(_PREEMPTIONS)
        return bool(self) and not (self._stoppable and only_preempted)
