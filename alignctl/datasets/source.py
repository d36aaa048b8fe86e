"""What a source of images gives, and which of its images a study uses."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alignctl.config.base import expanded
from alignctl.config.dataset_configs import DatasetSelection, StreamableConfig
from alignctl.config.validation import nearest
from alignctl.datasets.conversion import Losses
from alignctl.datasets.decoding import (
    losses_in_headers,
    open_image,
    refuse_unreadable,
)
from alignctl.datasets.in_memory import ImagesInMemory
from alignctl.datasets.numbered_classes import refuse_ambiguous_numbers
from alignctl.datasets.streamed import StreamedImages
from alignctl.errors import ConfigError

Split = Literal["train", "test"]

_NUM_NAMES_SHOWN = 20
_HEADERS_LOOKED_AT = 512


@dataclass(frozen=True)
class Source:
    """All images of one split, none of them decoded yet.

    labels: (N,) index into class_names; negative for images without a label.
    read: from m ids, ascending, to the images (m, H, W, 3) uint8.
    encoded: from ids in any order to these images, one after the other, as they are stored; None
    where they are not files or their bytes.
    marks: what tells these images from others, in order, without reading them: names of files, or
    sizes; None where `encoded` is.
    notices: what is to be known of the split before its images are read, a line each.
    losses: what `read` tells of the images that it converts; None where none is converted.
    """

    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    encoded: Callable[[NDArray[np.int64]], Iterator[tuple[str, Path | bytes]]] | None = None
    marks: Callable[[NDArray[np.int64]], bytes] | None = None
    notices: tuple[str, ...] = ()
    losses: Losses | None = None


@dataclass(frozen=True)
class _Selection:
    """Which images of a split are used; see `ImageSet`."""

    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    class_names: tuple[str, ...]


def select_images(source: Source, config: DatasetSelection, split: Split) -> ImagesInMemory:
    """The images of the chosen classes, read from the source.

    Raises ConfigError if `classes` or `images_per_class` ask for what the source does not have.
    """
    chosen = _select(source, config, split)
    images = np.ascontiguousarray(source.read(chosen.ids))
    lost = source.losses and source.losses.notice(f"the {len(images):,} {split} images")
    notices = (*source.notices, lost) if lost else source.notices
    return ImagesInMemory(images=images, notices=notices, **vars(chosen))


def select_encoded(source: Source, config: StreamableConfig, split: Split) -> StreamedImages:
    """The images of the chosen classes, of which the first one is decoded to see that it can be.

    Raises what `select_images` raises, and DataError for a damaged first image.
    """
    assert source.encoded is not None, "only such sources have in_memory in their config"
    assert source.marks is not None, "it comes with encoded"
    assert config.image_size is not None, "the config asks for it where in_memory is false"
    chosen = _select(source, config, split)
    open_image(next(source.encoded(chosen.ids[:1])))
    lost = _lost_when_decoded(source, chosen.ids, split)
    return StreamedImages(
        encoded=source.encoded,
        marks=source.marks(chosen.ids),
        image_size=config.image_size,
        resize=config.resize,
        workers=config.workers,
        notices=(*source.notices, lost) if lost else source.notices,
        **vars(chosen),
    )


def _lost_when_decoded(source: Source, ids: NDArray[np.int64], split: Split) -> str | None:
    """What some images, evenly spread, will lose; all of them where there are few."""
    assert source.encoded is not None, "select_encoded has seen it"
    looked_at = ids[:: -(-len(ids) // _HEADERS_LOOKED_AT)]
    some = f"the {len(ids):,} {split} images"
    if len(looked_at) < len(ids):
        some = f"{len(looked_at):,} of {some} whose headers were looked at"
    return losses_in_headers(source.encoded(looked_at)).notice(some)


@dataclass(frozen=True)
class SplitSummary:
    """What a study uses of a split, found without decoding an image."""

    num_images: int
    class_names: tuple[str, ...]
    notices: tuple[str, ...]


def summarise(source: Source, config: DatasetSelection, split: Split) -> SplitSummary:
    """How many images are chosen, of which classes; raises what `select_images` raises of them."""
    chosen = _select(source, config, split)
    return SplitSummary(len(chosen.ids), chosen.class_names, source.notices)


def refuse_unreadable_images(source: Source, config: DatasetSelection, split: Split) -> int:
    """Decode all chosen images; their number. DataError lists those that cannot be read."""
    ids = _select(source, config, split).ids
    if source.encoded is None:
        source.read(ids)
    else:
        refuse_unreadable(source.encoded(ids))
    return len(ids)


def _select(source: Source, config: DatasetSelection, split: Split) -> _Selection:
    classes = _chosen_classes(source.class_names, config)
    position = np.full(len(source.class_names) + 1, -1)  # the last one is for "no label"
    position[classes] = np.arange(len(classes))
    labels = position[np.maximum(source.labels, -1)]
    names = tuple(source.class_names[index] for index in classes)
    ids = np.flatnonzero(labels >= 0)
    if split == "train":
        ids = _first_of_each_class(ids, labels[ids], names, config.images_per_class)
    if not ids.size:
        raise ConfigError(f"dataset.classes: the {split} split has no image of the chosen classes")
    return _Selection(labels=labels[ids], ids=ids, class_names=names)


def data_folder(path: Path) -> Path:
    """The folder that `dataset.path` names; ConfigError where there is none."""
    root = expanded(path)
    try:
        is_there = root.is_dir()
    except OSError as error:  # as of a name that is too long
        raise ConfigError(f"dataset.path: {root}: {error.strerror}") from error
    if not is_there:
        raise ConfigError(
            f"dataset.path: there is no folder '{root}'; pass dataset.path=DIR for where it lies"
        )
    return root


def left_out(labels: NDArray[np.int64], where: str) -> tuple[str, ...]:
    """A line on images without a label, which are used for nothing; none where all have one."""
    count = int((labels < 0).sum())
    if not count:
        return ()
    return (f"{where}: {count:,} of {len(labels):,} images have no label and are left out",)


def class_hint(name: str, names: Sequence[str]) -> str:
    """What to say after "is not a class": the nearest name, and the names there are."""
    shown = ", ".join(names[:_NUM_NAMES_SHOWN])
    rest = f", ...: {len(names)} in all" if len(names) > _NUM_NAMES_SHOWN else ""
    return f"{nearest(name, names)} ({shown}{rest})"


def _chosen_classes(names: tuple[str, ...], config: DatasetSelection) -> list[int]:
    wanted = config.classes
    if isinstance(wanted, int):
        if wanted > len(names):
            raise ConfigError(f"dataset.classes: {wanted} is more than the {len(names)} there are")
        chosen = list(range(wanted))
    elif wanted is None:
        chosen = list(range(len(names)))
    else:
        refuse_ambiguous_numbers(wanted, names)
        chosen = [_class_index(item, names) for item in wanted]
    for index in chosen:
        if chosen.count(index) > 1:
            raise ConfigError(f"dataset.classes: '{names[index]}' is listed twice")
    if not chosen:
        raise ConfigError("dataset.classes: no class is chosen")
    return chosen


def _class_index(item: int | str, names: tuple[str, ...]) -> int:
    if isinstance(item, str):
        if item not in names:
            raise ConfigError(f"dataset.classes: '{item}' is not a class{class_hint(item, names)}")
        return names.index(item)
    if not 0 <= item < len(names):
        raise ConfigError(f"dataset.classes: {item} is not a class (0 to {len(names) - 1})")
    return item


def _first_of_each_class(
    ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    names: tuple[str, ...],
    images_per_class: int | None,
) -> NDArray[np.int64]:
    counts = np.bincount(labels, minlength=len(names))
    fewest = int(counts.argmin())
    if counts[fewest] == 0:
        raise ConfigError(f"dataset.classes: '{names[fewest]}' has no training images")
    if images_per_class is None:
        return ids
    if images_per_class > counts[fewest]:
        raise ConfigError(
            f"dataset.images_per_class: {images_per_class} is more than the {counts[fewest]} "
            f"training images of '{names[fewest]}'"
        )
    by_class = np.argsort(labels, kind="stable")
    starts = np.cumsum(counts) - counts
    return np.sort(ids[by_class[starts[:, None] + np.arange(images_per_class)].ravel()])
