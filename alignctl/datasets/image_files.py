"""Which files below a folder are images, and which are left out."""

import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from alignctl.errors import DataError

# Of Pillow's formats those of pictures: no documents, drawings, icons, films or scientific data.
_FORMATS = frozenset(
    ["AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "SGI",
     "SUN", "TGA", "TIFF", "WEBP"]
)  # fmt: skip
_TOOL_FOLDERS = frozenset(
    ["__macosx", "__pycache__", "lost+found", "$recycle.bin", "system volume information",
     "@eadir", "@tmp", "@recycle", "#recycle", "#snapshot"]
)  # fmt: skip
_NUM_NAMED = 5

Entry: TypeAlias = "os.DirEntry[str]"
_Identity = tuple[int, int]


@cache
def image_suffixes() -> tuple[str, ...]:
    """Suffixes in lower case of the pictures that the installed Pillow reads."""
    suffixes = Image.registered_extensions()
    return tuple(end for end, kind in suffixes.items() if kind in _FORMATS and kind in Image.OPEN)


def is_image(name: str) -> bool:
    """Whether a file counts as an image, by its name."""
    return name.lower().endswith(image_suffixes()) and not name.startswith(".")


def is_passed_over(name: str) -> bool:
    """Whether a folder of this name is hidden, or made by a tool for itself."""
    return name.startswith(".") or name.lower() in _TOOL_FOLDERS


class LeftOut:
    """What was found below some folders and is not used, by reason."""

    def __init__(self) -> None:
        self._files: Counter[str] = Counter()
        self._folders: Counter[str] = Counter()
        self._hidden = 0
        self._images: list[str] = []
        self._broken: list[str] = []
        self._reached_again: list[str] = []

    def folder(self, name: str) -> None:
        """Add a hidden or tool-made folder."""
        self._folders[name] += 1

    def file(self, name: str) -> None:
        """Add a file that counts as no image."""
        if name.startswith("."):
            self._hidden += 1
        else:
            self._files[Path(name).suffix.lower() or "without a suffix"] += 1

    def image_beside_classes(self, path: str) -> None:
        """Add an image that lies beside the folders of classes."""
        self._images.append(path)

    def broken_link(self, path: str) -> None:
        """Add a link to what is not there."""
        self._broken.append(path)

    def reached_again(self, path: str) -> None:
        """Add a second way to a folder, through links."""
        self._reached_again.append(path)

    def notice(self, folder: Path) -> str | None:
        """One line with all counts; None where nothing was left out."""
        parts = [
            _counted(self._files, "file{s} with no image's suffix"),
            f"{self._hidden:,} hidden file{_s(self._hidden)}" if self._hidden else None,
            _counted(self._folders, "hidden or tool-made folder{s}"),
            _listed(self._images, "image{s} beside the folders of classes"),
            _listed(self._broken, "broken link{s}"),
            _listed(self._reached_again, "folder{s} that links reach once more"),
        ]
        told = [part for part in parts if part]
        return f"left out of {folder}: {'; '.join(told)}" if told else None


def _counted(found: Counter[str], words: str) -> str | None:
    """`5 files with no image's suffix (4 .txt, 1 .xml)`."""
    if not found:
        return None
    named = [f"{count:,} {name}" for name, count in found.most_common(_NUM_NAMED)]
    more = [f"{len(found) - _NUM_NAMED} more kinds"] if len(found) > _NUM_NAMED else []
    total = found.total()
    return f"{total:,} {words.format(s=_s(total))} ({', '.join([*named, *more])})"


def _listed(paths: list[str], words: str) -> str | None:
    """`2 broken links (the first: PATH)`."""
    if not paths:
        return None
    where = paths[0] if len(paths) == 1 else f"the first: {paths[0]}"
    return f"{len(paths):,} {words.format(s=_s(len(paths)))} ({where})"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def entries_of(folder: Path | str) -> list[Entry]:
    """What is in a folder, sorted by name; DataError where it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error


def is_folder(entry: Entry) -> bool:
    """Whether it is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # as of a link to itself
        return False


def is_used_image(entry: Entry, left_out: LeftOut) -> bool:
    """Whether what is no folder counts as an image; told to `left_out` otherwise."""
    if entry.is_symlink() and not _is_there(entry):
        left_out.broken_link(entry.path)
        return False
    if not is_image(entry.name):
        left_out.file(entry.name)
        return False
    return True


def _is_there(entry: Entry) -> bool:
    try:
        entry.stat()
    except OSError:
        return False
    return True


def image_files(
    folder: Path, *, within: Path, left_out: LeftOut, deep: bool = True
) -> Iterator[str]:
    """The images in a folder and, if `deep`, those below, in the order of their paths' parts.

    Links to folders are followed, unless they lead into the folder `within`, above it, or to what
    is found already. Strings: a million of Path takes seconds to make and to sort.
    """
    return _Walk(within, left_out, deep=deep).images(folder)


class _Walk:
    """One pass over the folders of a class, which enters none of them twice."""

    def __init__(self, within: Path, left_out: LeftOut, *, deep: bool) -> None:
        self._within = os.path.realpath(within)
        self._left_out = left_out
        self._deep = deep
        self._entered: set[_Identity] = set()

    def images(self, folder: Path | str) -> Iterator[str]:
        """See `image_files`."""
        self._entered.add(_identity(folder))
        for entry in entries_of(folder):
            if not is_folder(entry):
                if is_used_image(entry, self._left_out):
                    yield entry.path
            elif is_passed_over(entry.name):
                self._left_out.folder(entry.name)
            elif self._deep:
                yield from self._images_below(entry)

    def _images_below(self, entry: Entry) -> Iterator[str]:
        if self._leads_back(entry):
            self._left_out.reached_again(entry.path)
        else:
            yield from self.images(entry.path)

    def _leads_back(self, entry: Entry) -> bool:
        if _identity(entry.path) in self._entered:
            return True
        if not entry.is_symlink():
            return False
        target = os.path.realpath(entry.path)
        return os.path.commonpath([target, self._within]) in (target, self._within)


def _identity(folder: Path | str) -> _Identity:
    """What tells a folder from others, whatever links lead to it; DataError where it is gone."""
    try:
        found = Path(folder).stat()
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    return found.st_dev, found.st_ino
