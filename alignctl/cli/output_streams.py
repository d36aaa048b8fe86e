"""Standard output and error that raise no error where a text cannot be written to them."""

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

_STRICT = ("strict", "surrogateescape")


@dataclass
class LostOutput:
    """What could not be written to standard output."""

    error: OSError | None = None
    """Why the first of it could not; None where all was written."""

    @property
    def reason(self) -> str | None:
        """Why output is lost; None where none is, or where its reader wanted no more of it."""
        if self.error is None or isinstance(self.error, BrokenPipeError):
            return None
        return self.error.strerror or str(self.error)


class _Forgiving(io.FileIO):
    """A descriptor that takes what cannot be written as written, and keeps the reason."""

    def __init__(self, descriptor: int, losses: LostOutput) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._losses = losses

    def write(self, data: Any) -> int:
        """How many bytes were written, or lost."""
        try:
            return super().write(data)
        except OSError as error:
            self._losses.error = self._losses.error or error
            return memoryview(data).nbytes


@contextlib.contextmanager
def forgiving_streams() -> Iterator[LostOutput]:
    """While this is open, printing raises nothing; what standard output lost is in the value.

    A disk may be full, a reader gone: what a command computes and writes to its files does not
    depend on it. What a stream's encoding lacks is written as an escape, such as \\xb0.
    """
    lost = LostOutput()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _forgiving(sys.stdout, lost), _forgiving(sys.stderr, LostOutput())
    try:
        yield lost
    finally:
        for stream, original in zip((sys.stdout, sys.stderr), before, strict=True):
            if stream is not original:
                stream.flush()
        sys.stdout, sys.stderr = before


def _forgiving(stream: TextIO, losses: LostOutput) -> TextIO:
    """A stream to the same descriptor; the stream itself where it has none, as in a notebook."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        stream.flush()
        raw = _Forgiving(stream.fileno(), losses)
    except OSError:  # also io.UnsupportedOperation
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace" if stream.errors in _STRICT else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
