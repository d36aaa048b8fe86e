"""One process at a time works on a run for one purpose."""

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from alignctl.errors import CheckpointError

_NO_LOCKS_HERE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def is_lock_file(path: Path) -> bool:
    """Whether the name is that of a lock, held or left behind."""
    return path.name.startswith(".") and path.suffix == ".lock"


@contextlib.contextmanager
def run_lock(folder: Path, purpose: str) -> Iterator[None]:
    """Hold the run for a purpose (the name of a subcommand) while this is open.

    folder: made where it is not there, and removed again where nothing else came into it.
    Raises CheckpointError where another process holds it, or where nothing can be written.
    """
    path = folder / f".{purpose}.lock"
    made: list[Path] = []
    try:
        held = _hold(path, purpose, made)
    except OSError as error:
        _remove(made)
        if isinstance(error, FileNotFoundError) and _was_removed(error, folder):
            raise _in_use(path, purpose) from error
        reason = error.strerror or error
        raise CheckpointError(f"{folder}: cannot be written: {reason}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # before the lock is released: the next holder makes a file of its own
        os.close(held)
        _remove(made)


def _hold(path: Path, purpose: str, made: list[Path]) -> int:
    """A descriptor of the file at `path`, locked until it is closed or its process ends.

    made: the folders that had to be made are added, outermost first.
    """
    _make(path.parent, made)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(file, path, purpose)
        _write_owner(file, path)
    except BaseException:
        os.close(file)
        raise
    return file


def _lock(file: int, path: Path, purpose: str) -> None:
    """Lock the open file; CheckpointError where another process holds it or has just removed it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(path, purpose, _owner(file)) from error
    except OSError as error:
        # some network file systems have no locks: better unprotected there than not at all
        if error.errno not in _NO_LOCKS_HERE:
            raise
    if not _is_named(file, path):  # the holder before us removed it after we had opened it
        raise _in_use(path, purpose)


def _in_use(path: Path, purpose: str, owner: str = "") -> CheckpointError:
    return CheckpointError(f"{path.parent}: in use by another `alignctl {purpose}`{owner}")


def _was_removed(error: FileNotFoundError, folder: Path) -> bool:
    """Whether the holder before us has just removed a folder that it had made."""
    if any(path.is_symlink() and not path.exists() for path in (folder, *folder.parents)):
        return False
    at = Path(error.filename)  # the lock, or a folder that could not be made
    if at.parent == folder or not at.parent.is_dir():
        return True
    try:
        at.mkdir()  # its parent is there, again or still: in some file systems nothing can be made
    except FileNotFoundError:
        return not at.parent.is_dir()
    except OSError:
        return True
    _remove([at])
    return True


def _is_named(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _write_owner(file: int, path: Path) -> None:
    owner = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(owner).encode(), 0)
    except OSError:
        path.unlink()
        raise


def _owner(file: int) -> str:
    try:
        owner: dict[str, Any] = json.loads(os.pread(file, 4096, 0))
        return f" (process {owner['pid']} on {owner['host']}, since {owner['since']})"
    except (ValueError, KeyError, TypeError):  # it has only just got the lock
        return ""


def _make(folder: Path, made: list[Path]) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            made.append(path)


def _remove(made: list[Path]) -> None:
    """Take back what was made, as far as it is empty."""
    for path in reversed(made):
        with contextlib.suppress(OSError):
            path.rmdir()
