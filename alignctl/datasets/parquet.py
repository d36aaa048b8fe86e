"""Parquet shards as the Hugging Face hub lays them out."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from alignctl.config.dataset_configs import ParquetConfig
from alignctl.datasets.conversion import Losses
from alignctl.datasets.decoding import decode_images
from alignctl.datasets.labels import UNLABELLED
from alignctl.datasets.shards import refuse_gaps
from alignctl.datasets.source import Source, Split, data_folder, left_out
from alignctl.errors import ConfigError, DataError, MissingSplitError
from alignctl.stand_ins import stand_in

_TEST_PREFIXES = "test", "validation", "valid", "val"
_IMAGE_COLUMNS = "image", "img"
_LABEL_COLUMNS = "label", "fine_label"


def parquet_source(config: ParquetConfig, split: Split) -> Source:
    """The images of one split; ids count the rows through the shards in the order of their names.

    Class names come from the schema's metadata; without them they are the numbers of the training
    labels. Where no training image has a label, all are of one class.
    Raises ConfigError if the folder or its shards are missing, DataError if a shard is damaged.
    """
    root = data_folder(config.path)
    train = _shards(root, "train")
    if not train:
        raise ConfigError(_no_shards(root, "train"))
    known = [_read_labels(shard) for shard in train]
    is_labelled = max(map(_num_classes, known)) > 0
    shards, notices = (
        (train, ()) if split == "train" else _test_shards(root, any_of=not is_labelled)
    )
    if is_labelled:
        labels = known if split == "train" else [_read_labels(shard) for shard in shards]
        names = _class_names(train[0]) or tuple(map(str, range(max(map(_num_classes, known)))))
    else:
        labels = [np.zeros(len(_read_labels(shard)), dtype=np.int64) for shard in shards]
        names = (UNLABELLED,)
    for shard, shard_labels in zip(shards, labels, strict=True):
        if _num_classes(shard_labels) > len(names):
            row = int(shard_labels.argmax())
            raise DataError(
                f"{shard}, row {row}: label {shard_labels[row]}, but there are {len(names)} classes"
            )
    starts = np.cumsum([0, *map(len, labels)])
    losses = Losses()
    return Source(
        labels=np.concatenate(labels),
        class_names=names,
        read=lambda ids: decode_images(
            _encoded_images(shards, starts, ids),
            len(ids),
            image_size=config.image_size,
            resize=config.resize,
            losses=losses,
        ),
        losses=losses,
        notices=(*notices, *left_out(np.concatenate(labels), f"{root}, {split} split")),
    )


def _shards(root: Path, prefix: str) -> list[Path]:
    """The files of one split, in order; none where there are none. ConfigError where some lack."""
    pattern = f"{prefix}-*.parquet"
    found = [shards for folder in (root, root / "data") if (shards := sorted(folder.glob(pattern)))]
    if len(found) > 1:
        raise ConfigError(
            f"dataset.path: '{root}' has {pattern}, and so has its folder data/; "
            f"pass dataset.path={root / 'data'} for those, or move one of the two away"
        )
    if not found:
        return []
    refuse_gaps(found[0])
    return found[0]


def _test_shards(root: Path, *, any_of: bool) -> tuple[list[Path], tuple[str, ...]]:
    """The files of the first usual split that has labels, and what to say of those before it.

    any_of: the first that is there, with labels or without.
    """
    unlabelled: list[str] = []
    for prefix in _TEST_PREFIXES:
        shards = _shards(root, prefix)
        if shards and (any_of or _has_labels(shards)):
            passed_over = ", ".join(unlabelled)
            text = f"{root}: no labels in {passed_over}; testing is on {prefix}-*.parquet"
            return shards, (text,) if unlabelled else ()
        unlabelled += [f"{prefix}-*.parquet"] if shards else []
    if not unlabelled:
        raise MissingSplitError(_no_shards(root, *_TEST_PREFIXES))
    raise MissingSplitError(
        f"dataset.path: '{root}' has no labels to test with: in {', '.join(unlabelled)} all are "
        f"-1 or null, or there is no column {' or '.join(_LABEL_COLUMNS)}"
    )


def _no_shards(root: Path, *prefixes: str) -> str:
    wanted = " or ".join(f"{prefix}-*.parquet" for prefix in prefixes)
    return f"dataset.path: '{root}' has no {wanted}, nor has its folder data/"


def _has_labels(shards: list[Path]) -> bool:
    with _opened(shards[0]) as file:
        if not set(_LABEL_COLUMNS) & set(file.schema_arrow.names):
            return False
    return any(bool((_read_labels(shard) >= 0).any()) for shard in shards)


@contextmanager
def _opened(shard: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(shard) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = stand_in(shard) or f"cannot be read: {str(error).splitlines()[0]}"
        raise DataError(f"{shard}: {reason}") from error


def _column(file: pq.ParquetFile, shard: Path, names: tuple[str, ...]) -> pa.Field:
    schema = file.schema_arrow
    for name in names:
        if name in schema.names:
            return schema.field(name)
    wanted = "' or '".join(names)
    raise DataError(f"{shard}: no column '{wanted}' (columns: {', '.join(schema.names)})")


def _read_labels(shard: Path) -> NDArray[np.int64]:
    with _opened(shard) as file:
        field = _column(file, shard, _LABEL_COLUMNS)
        if not (pa.types.is_integer(field.type) or pa.types.is_null(field.type)):
            raise DataError(f"{shard}: column '{field.name}' holds {field.type}, not whole numbers")
        column = file.read([field.name]).column(0)
        labels: NDArray[np.int64] = column.cast(pa.int64()).fill_null(-1).to_numpy()
        return labels


def _num_classes(labels: NDArray[np.int64]) -> int:
    return int(labels.max(initial=-1)) + 1


def _class_names(shard: Path) -> tuple[str, ...]:
    """The names in the metadata that the `datasets` library writes; none without it."""
    with _opened(shard) as file:
        label = _column(file, shard, _LABEL_COLUMNS).name
        metadata = (file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        return tuple(json.loads(metadata)["info"]["features"][label]["names"])
    except (ValueError, KeyError, TypeError):
        return ()


def _encoded_images(
    shards: list[Path], starts: NDArray[np.int64], ids: NDArray[np.int64]
) -> Iterator[tuple[str, bytes]]:
    """The place and the bytes of each image; holds one row group at a time, skips unused ones."""
    for shard, start, end in zip(shards, starts[:-1], starts[1:], strict=True):
        rows = ids[(ids >= start) & (ids < end)] - start
        if not rows.size:
            continue
        with _opened(shard) as file:
            field = _column(file, shard, _IMAGE_COLUMNS)
            if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") < 0:
                raise DataError(f"{shard}: column '{field.name}' has no field 'bytes'")
            first = 0
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                wanted = rows[(rows >= first) & (rows < first + size)]
                if wanted.size:
                    column = file.read_row_group(group, [field.name]).column(0).take(wanted - first)
                    yield from _places_and_bytes(shard, wanted, column)
                first += size


def _places_and_bytes(
    shard: Path, rows: NDArray[np.int64], column: pa.ChunkedArray
) -> Iterator[tuple[str, bytes]]:
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    for row, data in zip(rows, column.to_pylist(), strict=True):
        if not isinstance(data, bytes):
            raise DataError(f"{shard}, row {row}: holds no image bytes")
        yield f"{shard}, row {row}", data
