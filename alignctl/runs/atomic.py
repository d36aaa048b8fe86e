"""Files that are either the old one or the new one, whatever happens while they are written."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from alignctl.errors import CheckpointError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it into place.

    Raises CheckpointError, with the old file untouched, where the disk refuses.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _make_folder(path.parent)
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def _make_folder(folder: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Sync the folder: without it, a power cut may undo the renaming of a file in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace the file's text atomically; UTF-8, a name's undecodable bytes written as escapes."""
    write_atomically(
        path,
        lambda beside: beside.write_text(text, encoding="utf-8", errors="backslashreplace"),
    )


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files that a killed process left in a folder."""
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)
