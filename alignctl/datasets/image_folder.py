"""Folders of image files: SPLIT/CLASS/**/IMAGE."""

from pathlib import Path

import numpy as np

from alignctl.config.datasets import ImageFolderConfig
from alignctl.datasets.decoding import decode_images
from alignctl.datasets.source import Source, Split, class_hint
from alignctl.errors import ConfigError

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


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
    files, labels = [], []
    for label, name in enumerate(names):
        found = _image_files(folder / name)
        files += found
        labels += [label] * len(found)
    return Source(
        labels=np.array(labels, dtype=np.int64),
        class_names=names,
        read=lambda ids: decode_images(
            ((str(files[index]), files[index]) for index in ids),
            len(ids),
            image_size=config.image_size,
        ),
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


def _image_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )
