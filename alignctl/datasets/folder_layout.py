"""Which folders hold the images of which split and class."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alignctl.datasets.image_files import (
    LeftOut,
    entries_of,
    image_files,
    is_folder,
    is_image,
    is_passed_over,
)
from alignctl.datasets.labels import UNLABELLED
from alignctl.errors import ConfigError, MissingSplitError

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")
_NUM_NAMED = 10


@dataclass(frozen=True)
class SplitFolder:
    """One split: its folder, and the folder of each class, in the order of the folders' names.

    Names of classes are in Unicode's composed form, whichever form the disk has.
    deep: whether the images in folders below that of a class are of this class.
    """

    path: Path
    classes: Mapping[str, Path]
    deep: bool = True

    @property
    def is_labelled(self) -> bool:
        """Whether its images lie in folders of classes."""
        return list(self.classes.values()) != [self.path]


def training_folder(root: Path) -> SplitFolder:
    """The folder of the training images: train/, or the root where images lie in it directly.

    Raises ConfigError that says what is there where this is no such folder.
    """
    for folder in _named(root, _TRAIN):
        classes = _class_folders(folder)
        if classes:
            return SplitFolder(folder, classes)
        if _holds_images(folder):
            return SplitFolder(folder, {UNLABELLED: folder}, deep=False)
        raise ConfigError(
            f"dataset.path: '{folder}' has no class folders and no images; {_contents(folder)}"
        )
    others = set(_folders(root)) - {folder.name for folder in _named(root, _TEST)}
    if _holds_images(root) and not others:
        return SplitFolder(root, {UNLABELLED: root}, deep=False)
    raise ConfigError(_without_train(root))


def test_folder(root: Path, train: SplitFolder) -> tuple[SplitFolder, tuple[str, ...]]:
    """The first of test/, val/ and the like that is labelled as `train` is; notices about it.

    Raises MissingSplitError where there is none.
    """
    passed_over: list[tuple[Path, str]] = []
    for folder in _named(root, _TEST):
        found = _labelled_as(train, folder)
        if found is not None and not passed_over:
            return found, ()
        if found is not None:
            missing = f"class of '{train.path}'" if train.is_labelled else "image"
            why = "; ".join(f"'{other}' has no {missing} ({holds})" for other, holds in passed_over)
            return found, (f"'{folder}' is the test split: {why}",)
        passed_over.append((folder, _contents(folder)))
    without = "".join(f"; '{other}' has none ({holds})" for other, holds in passed_over)
    wanted = f"with a class of '{train.path}'" if train.is_labelled else "with images"
    raise MissingSplitError(
        f"dataset.path: '{root}' has no folder test/ or val/ (or valid/, validation/, testing/) "
        f"{wanted}{without}; dataset.test_fraction=0.2 sets a part of the training images aside"
    )


def _labelled_as(train: SplitFolder, folder: Path) -> SplitFolder | None:
    """The folder as a split with some class of `train`; None where it has none."""
    if not train.is_labelled:
        found = next(image_files(folder, within=folder, left_out=LeftOut()), None)
        return None if found is None else SplitFolder(folder, {UNLABELLED: folder})
    classes = _class_folders(folder)
    return SplitFolder(folder, classes) if set(classes) & set(train.classes) else None


def _named(root: Path, names: tuple[str, ...]) -> list[Path]:
    """The folders of these names, in the order of the names; in any case where lower is missing."""
    there, found = _folders(root), []
    for name in names:
        alike = [name] if name in there else [each for each in there if each.lower() == name]
        if len(alike) > 1:
            listed = " and ".join(f"{each}/" for each in alike)
            raise ConfigError(f"dataset.path: '{root}' has {listed}, of which one is to go")
        found += [root / each for each in alike]
    return found


def _folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, without hidden and tool-made ones, sorted."""
    names = (entry.name for entry in entries_of(folder) if is_folder(entry))
    return [name for name in names if not is_passed_over(name)]


def _class_folders(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in _folders(folder):
        composed = unicodedata.normalize("NFC", name)
        if composed in found:
            forms = " and ".join(map(_code_points, (found[composed].name, name)))
            raise ConfigError(
                f"dataset.path: '{folder}' has two folders '{composed}', which differ in the form "
                f"of their accents only ({forms}); join them"
            )
        found[composed] = folder / name
    return found


def _code_points(name: str) -> str:
    return " ".join(f"U+{ord(letter):04X}" for letter in name)


def _holds_images(folder: Path) -> bool:
    return any(is_image(entry.name) and not is_folder(entry) for entry in entries_of(folder))


def _without_train(root: Path) -> str:
    """The error of a folder without a training split: what is there, and what could be done."""
    folders = _folders(root)
    message = f"dataset.path: '{root}' has no folder train/; {_contents(root)}"
    for name in folders:
        if _named(root / name, _TRAIN):
            return f"{message}; pass dataset.path={root / name}, which has one"
    if any(_holds_images(root / name) for name in folders):
        return (
            f"{message}; if these are classes, move them into a new folder train/, and where there "
            "are no test images set dataset.test_fraction=0.2 or evaluate on train alone"
        )
    return message


def _contents(folder: Path) -> str:
    """`it holds the folders a/, b/ (2 in all) and 3 images`."""
    folders = _folders(folder)
    files = [entry.name for entry in entries_of(folder) if not is_folder(entry)]
    images = sum(map(is_image, files))
    parts = []
    if folders:
        listed = ", ".join(f"{name}/" for name in folders[:_NUM_NAMED])
        more = f", ... ({len(folders):,} in all)" if len(folders) > _NUM_NAMED else ""
        parts.append(f"the folder{'s' if len(folders) > 1 else ''} {listed}{more}")
    for count, word in ((images, "image"), (len(files) - images, "other file")):
        if count:
            parts.append(f"{count:,} {word}{'s' if count > 1 else ''}")
    return f"it holds {' and '.join(parts)}" if parts else "it is empty"
