"""Folders of image files: SPLIT/CLASS/**/IMAGE, or images without labels."""

import hashlib
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alignctl.config.dataset_configs import ImageFolderConfig
from alignctl.datasets.conversion import Losses
from alignctl.datasets.decoding import EncodedImage, decode_images
from alignctl.datasets.folder_layout import SplitFolder, test_folder, training_folder
from alignctl.datasets.image_files import (
    LeftOut,
    entries_of,
    image_files,
    is_folder,
    is_passed_over,
    is_used_image,
)
from alignctl.datasets.source import Source, Split, class_hint, data_folder
from alignctl.errors import ConfigError, MissingSplitError

_NUM_NAMED = 10  # of many classes


def image_folder_source(config: ImageFolderConfig, split: Split) -> Source:
    """The images of one split; class names and order are those of the folders in train/.

    Ids count the files by class, then by path.
    Raises ConfigError if a folder is missing or the test split has a class that train/ has not;
    MissingSplitError if there is no test split.
    """
    train = training_folder(data_folder(config.path))
    folder, notices = _split_folder(config, train, split)
    by_class, left_out = _files(config, folder, split, tuple(train.classes))
    if split == "train" and config.classes is None and left_out:
        _refuse_empty_classes(train, by_class, left_out)
    files = [file for found in by_class for file in found]
    start = len(str(folder.path)) + 1

    def encoded(ids: NDArray[np.int64]) -> Iterator[EncodedImage]:
        return ((files[index], Path(files[index])) for index in ids)

    losses = Losses()
    return Source(
        labels=np.repeat(np.arange(len(by_class)), [len(found) for found in by_class]),
        class_names=tuple(train.classes),
        read=lambda ids: decode_images(
            encoded(ids),
            len(ids),
            image_size=config.image_size,
            resize=config.resize,
            losses=losses,
        ),
        encoded=encoded,
        marks=lambda ids: os.fsencode("\0".join(files[index][start:] for index in ids)),
        notices=(*notices, left_out) if left_out else notices,
        losses=losses,
    )


def find_test_folder(config: ImageFolderConfig) -> Path:
    """The folder that holds the test images; raises what `image_folder_source` does without it."""
    folder, _ = _split_folder(config, training_folder(data_folder(config.path)), "test")
    return folder.path


def _split_folder(
    config: ImageFolderConfig, train: SplitFolder, split: Split
) -> tuple[SplitFolder, tuple[str, ...]]:
    """The folder of a split, where a part of train/ may be the test split; notices about it."""
    if config.test_fraction is not None:
        try:
            found, _ = test_folder(data_folder(config.path), train)
        except MissingSplitError:
            return train, ()
        raise ConfigError(
            f"dataset.test_fraction: '{found.path}' holds test images; leave the key out to use "
            "them"
        )
    if split == "train":
        return train, ()
    found, notices = test_folder(data_folder(config.path), train)
    unknown = [name for name in found.classes if name not in train.classes]
    if not unknown:
        return found, notices
    if config.unknown_classes == "refuse":
        name = unknown[0]
        raise ConfigError(
            f"dataset.path: '{found.classes[name]}' is not a class of '{train.path}'"
            f"{class_hint(name, tuple(train.classes))}; dataset.unknown_classes=ignore leaves out "
            "such classes"
        )
    listed = ", ".join(unknown[:_NUM_NAMED])
    more = f" and {len(unknown) - _NUM_NAMED} more" if len(unknown) > _NUM_NAMED else ""
    left_out = f"left out of {found.path}: {listed}{more}, which {train.path} does not have"
    return found, (*notices, left_out)


def _files(
    config: ImageFolderConfig, folder: SplitFolder, split: Split, names: tuple[str, ...]
) -> tuple[list[list[str]], str | None]:
    """The files of each class of `names`, and one line on what else was found."""
    left_out = LeftOut()
    if folder.is_labelled:
        _look_beside_classes(folder.path, left_out)
    by_class = []
    for name in names:
        files = _files_of(folder, name, left_out) if name in folder.classes else []
        if config.test_fraction is not None:
            aside = _set_aside(files, folder.path, config.test_fraction)
            files = [file for file in files if (file in aside) == (split == "test")]
        by_class.append(files)
    return by_class, left_out.notice(folder.path)


def _files_of(folder: SplitFolder, name: str, left_out: LeftOut) -> list[str]:
    place, within = folder.classes[name], folder.path
    return list(image_files(place, within=within, left_out=left_out, deep=folder.deep))


def _refuse_empty_classes(
    train: SplitFolder, by_class: Sequence[Sequence[str]], left_out: str
) -> None:
    """Say what was left out where that may be why a class has no images."""
    for name, files in zip(train.classes, by_class, strict=True):
        if not files:
            raise ConfigError(f"dataset.classes: '{name}' has no training images; {left_out}")


def _look_beside_classes(folder: Path, left_out: LeftOut) -> None:
    for entry in entries_of(folder):
        if is_folder(entry):
            if is_passed_over(entry.name):
                left_out.folder(entry.name)
        elif is_used_image(entry, left_out):
            left_out.image_beside_classes(entry.path)


def _set_aside(files: list[str], folder: Path, fraction: float) -> set[str]:
    """The files of one class that are for testing: at least one, and at least one for training.

    They depend on the names alone, and hardly change where files are added.
    """
    count = min(max(int(len(files) * fraction + 0.5), 1), len(files) - 1)
    start = len(str(folder)) + 1

    def draw(file: str) -> bytes:
        name = unicodedata.normalize("NFC", file[start:])
        return hashlib.sha256(os.fsencode(name)).digest()

    return set(sorted(files, key=draw)[: max(count, 0)])
