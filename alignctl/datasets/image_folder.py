"""Folders of image files: SPLIT/CLASS/**/IMAGE."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alignctl.config.datasets import ImageFolderConfig
from alignctl.datasets.decoding import EncodedImage, decode_images
from alignctl.datasets.source import Source, Split, class_hint
from alignctl.errors import ConfigError, DataError

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def image_folder_source(config: ImageFolderConfig, split: Split) -> Source:
    """The images of one split; class names and order are those of the folders in train/.

    Ids count the files by class, then by path.
    Raises ConfigError if a folder is missing or the test split has a class that train/ has not.
    """
    root = config.path.expanduser()
    if not root.is_dir():
        raise ConfigError(f"dataset.path: there is no folder '{root}'")
    train = _split_folder(root, "train")
    folder = train if split == "train" else _split_folder(root, "test", "val")
    names = _class_names(train)
    for name in _class_names(folder):
        if name not in names:
            raise ConfigError(
                f"dataset.path: '{folder / name}' is not a class of '{train}'"
                f"{class_hint(name, names)}"
            )
    files: list[str] = []  # a million of Path takes seconds to make and to sort
    counts = []
    for name in names:
        before = len(files)
        files.extend(_image_files(folder / name))
        counts.append(len(files) - before)

    start = len(str(folder)) + 1

    def encoded(ids: NDArray[np.int64]) -> Iterator[EncodedImage]:
        return ((files[index], Path(files[index])) for index in ids)

    return Source(
        labels=np.repeat(np.arange(len(names)), counts),
        class_names=names,
        read=lambda ids: decode_images(
            encoded(ids), len(ids), image_size=config.image_size, resize=config.resize
        ),
        encoded=encoded,
        marks=lambda ids: "\0".join(files[index][start:] for index in ids).encode(),
    )


def _split_folder(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    wanted = "/ or ".join(names)
    raise ConfigError(f"dataset.path: '{root}' has no folder {wanted}/ with one folder per class")


def _class_names(folder: Path) -> tuple[str, ...]:
    names = (entry.name for entry in folder.iterdir() if entry.is_dir())
    return tuple(sorted(name for name in names if not name.startswith(".")))


def _image_files(folder: Path | str) -> Iterator[str]:
    """The images in the folder and those below, by their paths' parts; none where it is missing."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):  # a link may lead back
            yield from _image_files(entry.path)
        elif entry.name.lower().endswith(_SUFFIXES) and not entry.name.startswith("."):
            yield entry.path
