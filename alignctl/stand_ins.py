"""What may lie in a file's place: a pointer of Git LFS, a web page."""

from pathlib import Path

_HEAD_BYTES = 512
_POINTER = b"version https://git-lfs.github.com/spec/v1"
_PAGES = b"<!doctype html", b"<html"


def stand_in(data: Path | bytes) -> str | None:
    """What a file that cannot be read is instead, and what to do; None where that is not known."""
    try:
        head = data[:_HEAD_BYTES] if isinstance(data, bytes) else _head_of(data)
    except OSError:
        return None
    if head.startswith(_POINTER):
        return "is a pointer of Git LFS in place of the file; run `git lfs pull` in its folder"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGES):
        return "is a web page (HTML) in place of the file; what was fetched was not the file"
    return None


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)
