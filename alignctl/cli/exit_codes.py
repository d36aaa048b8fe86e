"""What becomes of an error: one line and an exit code.

0 done, 1 failed, 2 wrong usage or config, 130 interrupted, 75 stopped by SIGTERM or SIGUSR1: the
same command goes on from there (EX_TEMPFAIL, which job queues know).
"""

import errno
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignctl.cli.usage_errors import UsageError, wrong_usage
from alignctl.errors import AlignctlError, ConfigError, PreemptedError, out_of_memory

FAILED, WRONG_USAGE, PREEMPTED, INTERRUPTED = 1, 2, 75, 130

# of paths that can never be what they are asked to be
_WRONG_PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)


def named(error: BaseException) -> BaseException:
    """A failed allocation or a wrong command line as an error of ours; else the error itself."""
    ours = out_of_memory(error) or wrong_usage(error)
    if ours is None:
        return error
    ours.__cause__ = error  # a verbose report shows it
    return ours


def report(error: BaseException, *, verbose: bool) -> int:
    """Print the one line of a handled error, below its traceback if verbose; its exit code."""
    from alignctl.cli.terminal import print_error

    if verbose:
        traceback.print_exception(error)
    line = next(line for kind, line in _LINES.items() if isinstance(error, kind))
    print_error(line(error))
    return _exit_code(error)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, OSError):
        return WRONG_USAGE if error.errno in _WRONG_PATHS else FAILED
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), FAILED)


def _of_the_system(error: OSError) -> str:
    reason = error.strerror or str(error).partition("\n")[0] or type(error).__name__
    paths = [os.fsdecode(path) for path in (error.filename, error.filename2)
             if isinstance(path, str | bytes)]  # fmt: skip
    if not paths and error.errno == errno.ENOENT and not _working_directory_is_there():
        return "the working directory is gone; change to one that is there"
    return f"{' -> '.join(paths)}: {reason}" if paths else reason


def _working_directory_is_there() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _of_a_name(error: UnicodeEncodeError) -> str:
    first = error.object.rfind("\n", 0, error.start) + 1
    line = error.object[first:].partition("\n")[0]
    return f"{line}: holds bytes that are no {error.encoding} text"


def _of_a_warning(error: Warning) -> str:
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text} (an error because of PYTHONWARNINGS or -W)"


_CODES: dict[type[BaseException], int] = {
    ConfigError: WRONG_USAGE,
    UnicodeEncodeError: WRONG_USAGE,
    PreemptedError: PREEMPTED,
    KeyboardInterrupt: INTERRUPTED,
}
_LINES: dict[type[BaseException], Callable[[Any], str]] = {
    AlignctlError: str,
    KeyboardInterrupt: lambda _: "interrupted",
    OSError: _of_the_system,
    UnicodeEncodeError: _of_a_name,
    Warning: _of_a_warning,
}
HANDLED = tuple(_LINES)
"""The errors that have a line; any other is a bug, and shows its traceback."""
CAUGHT: tuple[type[BaseException], ...] = (*HANDLED, UsageError, MemoryError, RuntimeError)
"""The errors that may have a line once they are `named`."""
