"""Files that are either the old one or the new one, whatever happens while they are written."""

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
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if beside.exists():
            beside.unlink()


def _sync_folder(folder: Path) -> None:
    """A renamed file may have its old name again after a power cut, unless the folder is synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace the file's text atomically."""
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed while writing left beside the files of a folder."""
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)
