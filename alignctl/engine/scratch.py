"""The folder through which a launch and its workers talk, which others may remove under them."""

from collections.abc import Callable
from pathlib import Path


def write_in_scratch(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file of the scratch folder; the folder too, where it was removed.

    What lies among temporary files may be cleaned away under a long job. Raises OSError where
    neither can be made.
    """
    try:
        write(path)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(path)
