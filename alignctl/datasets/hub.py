"""Datasets of the Hugging Face hub, and folders that its library reads, mapped into memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alignctl.config.dataset_configs import HubConfig
from alignctl.config.validation import nearest
from alignctl.datasets.conversion import Losses
from alignctl.datasets.decoding import EncodedImage, decode_images
from alignctl.datasets.hub_library import load_splits, place_of
from alignctl.datasets.source import Source, Split, left_out
from alignctl.errors import ConfigError, DataError, MissingSplitError

_IMAGE_COLUMNS = "image", "img", "jpg", "jpeg", "png", "webp"
_LABEL_COLUMNS = "label", "labels", "fine_label", "cls", "target"
_TEST_SPLITS = "test", "validation", "valid", "val"


def hub_source(config: HubConfig, split: Split) -> Source:
    """The images of one split, still encoded in files of the library; ids are its row numbers.

    Classes are those of the train split: named by the dataset, or else by the numbers or the
    words (in sorted order) that its labels are.
    Raises ConfigError for what is not there, DataError for what cannot be fetched or read.
    """
    place, splits = place_of(config), load_splits(config)
    train = _named(config.train_split, list(splits), key="train_split", of=place)
    image = _image_column(splits[train], config, place)
    label = _column(splits[train], config.label_column, _LABEL_COLUMNS, key="label", of=place)
    names = _class_names(splits[train], label, place)
    notices: tuple[str, ...] = ()
    if split == "train":
        chosen = train
    elif config.test_split is not None:
        chosen = _named(config.test_split, list(splits), key="test_split", of=place)
    else:
        chosen, notices = _labelled_split(splits, label, place)
    where = f"{place}, split {chosen}"
    encoded = _encoded_images(splits[chosen].data.column(image), where)
    losses = Losses()
    labels = _labels(splits[chosen].data.column(label), names, where)
    return Source(
        labels=labels,
        class_names=names,
        read=lambda ids: decode_images(
            encoded(ids),
            len(ids),
            image_size=config.image_size,
            resize=config.resize,
            losses=losses,
        ),
        encoded=encoded,
        marks=lambda ids: _marks(splits[chosen].data.column(image), ids),
        losses=losses,
        notices=(*notices, *left_out(labels, where)),
    )


def _named(name: str, allowed: list[str], *, key: str, of: str) -> str:
    kind = "column" if key.endswith("column") else "split"
    if name not in allowed:
        raise ConfigError(
            f"dataset.{key}: '{name}' is not a {kind} of {of}{nearest(name, allowed)} "
            f"({', '.join(allowed)})"
        )
    return name


def _column(dataset: Any, name: str | None, usual: tuple[str, ...], *, key: str, of: str) -> str:
    columns: list[str] = dataset.column_names
    if name is not None:
        return _named(name, columns, key=f"{key}_column", of=of)
    for candidate in usual:
        if candidate in columns:
            return candidate
    raise ConfigError(
        f"dataset.{key}_column: {of} has none of the usual columns {', '.join(usual)}; "
        f"name one of its own ({', '.join(columns)})"
    )


def _image_column(train: Any, config: HubConfig, place: str) -> str:
    name = _column(train, config.image_column, _IMAGE_COLUMNS, key="image", of=place)
    kind = train.data.column(name).type
    if not _holds_images(kind):
        raise ConfigError(f"dataset.image_column: '{name}' of {place} holds {kind}, not images")
    return name


def _class_names(train: Any, label: str, place: str) -> tuple[str, ...]:
    if names := getattr(train.features[label], "names", None):
        return tuple(names)
    column = train.data.column(label)
    if _is_text(column.type):
        return tuple(sorted(name for name in pc.unique(column).to_pylist() if name is not None))
    if pa.types.is_integer(column.type):
        return tuple(str(number) for number in range((pc.max(column).as_py() or 0) + 1))
    raise ConfigError(
        f"dataset.label_column: '{label}' of {place} holds {column.type}, "
        "neither whole numbers nor text"
    )


def _labelled_split(splits: dict[str, Any], label: str, place: str) -> tuple[str, tuple[str, ...]]:
    """The first usual split that has labels, and what to say of those before it."""
    there = [name for name in _TEST_SPLITS if name in splits]
    for number, name in enumerate(there):
        if _has_labels(splits[name], label):
            passed_over = ", ".join(there[:number])
            text = f"{place}: no labels in split {passed_over}; testing is on split {name}"
            return name, (text,) if passed_over else ()
    raise MissingSplitError(
        f"dataset.test_split: {place} has no labels in a split {', '.join(_TEST_SPLITS)}; "
        f"name another ({', '.join(splits)})"
    )


def _has_labels(dataset: Any, label: str) -> bool:
    if label not in dataset.column_names:
        return False
    column = dataset.data.column(label)
    if _is_text(column.type):
        return bool(column.null_count < len(column))
    return bool(pc.any(pc.greater_equal(column, 0)).as_py())


def _labels(column: pa.ChunkedArray, names: tuple[str, ...], where: str) -> NDArray[np.int64]:
    """(N,), each an index into names, negative where there is none; no image is decoded."""
    if _is_text(column.type):
        numbers = pc.index_in(column, value_set=pa.array(names, column.type))
        unknown = pc.and_(pc.is_null(numbers), pc.is_valid(column)).to_numpy()
    else:
        numbers = column
        unknown = pc.fill_null(pc.greater_equal(column, len(names)), False).to_numpy()
    if unknown.any():
        row = int(unknown.argmax())
        raise DataError(
            f"{where}, row {row}: label '{column[row]}', but there are {len(names)} classes"
        )
    labels: NDArray[np.int64] = pc.fill_null(numbers.cast(pa.int64()), -1).to_numpy()
    return labels


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _encoded_images(
    column: pa.ChunkedArray, where: str
) -> Callable[[NDArray[np.int64]], Iterator[EncodedImage]]:
    """From ids to their images; copies nothing but what is asked for."""
    chunks = column.chunks
    ends = np.cumsum([len(chunk) for chunk in chunks])

    def encoded(ids: NDArray[np.int64]) -> Iterator[EncodedImage]:
        for row, index in zip(ids, np.searchsorted(ends, ids, side="right"), strict=True):
            chunk = chunks[index]
            yield _called(f"{where}, row {row}", chunk[row - ends[index] + len(chunk)].as_py())

    return encoded


def _marks(column: pa.ChunkedArray, ids: NDArray[np.int64]) -> bytes:
    """The sizes of the images, or the names of their files where these are elsewhere."""
    if pa.types.is_struct(column.type):
        fields = {field.name for field in column.type}
        if "path" in fields and ("bytes" not in fields or not _has_bytes(column)):
            paths = pc.struct_field(column, "path").take(ids).to_pylist()
            return "\0".join("/".join(Path(path or "").parts[-2:]) for path in paths).encode()
        column = pc.struct_field(column, "bytes")
    sizes = pc.fill_null(pc.binary_length(column), -1).cast(pa.int64()).to_numpy()
    return bytes(sizes[ids].astype("<i8").data)


def _has_bytes(column: pa.ChunkedArray) -> bool:
    first = column.slice(0, 1).to_pylist()
    return bool(first) and first[0] is not None and first[0]["bytes"] is not None


def _holds_images(kind: pa.DataType) -> bool:
    """Whether it is the files' bytes, or a structure with these or their paths."""
    if pa.types.is_struct(kind):
        return any(field.name in ("bytes", "path") for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _called(place: str, image: Any) -> EncodedImage:
    if isinstance(image, dict):
        data, path = image.get("bytes"), image.get("path")
        if data is None and path is not None:
            return f"{place}: {path}", Path(path)
        image = data
    if image is None:
        raise DataError(f"{place}: holds no image")
    return place, image
