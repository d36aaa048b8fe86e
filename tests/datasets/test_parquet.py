import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignctl.config.dataset_configs import ParquetConfig
from alignctl.datasets import load_images, missing_test_split
from alignctl.errors import ConfigError, DataError, MissingSplitError

NAMES = ["cat", "dog", "emu"]


def png(value: int, size: tuple[int, int] = (4, 3)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write(
    path: Path,
    labels: list,
    images: list,
    *,
    columns: tuple[str, str] = ("image", "label"),
    names: list[str] | None = NAMES,
) -> None:
    """A shard as the `datasets` library writes it; integers stand for images of that red."""
    cells = [png(image) if isinstance(image, int) else image for image in images]
    structs = [{"bytes": cell, "path": None} for cell in cells]
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({columns[0]: pa.array(structs, image_type), columns[1]: pa.array(labels)})
    if names is not None:
        features = {columns[1]: {"names": names, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "data/train-00000-of-00002.parquet", [0, 1, 2, 1, 0], [10, 11, 12, 13, 14])
    write(tmp_path / "data/train-00001-of-00002.parquet", [2, 2, 0], [15, 16, 17])
    write(tmp_path / "data/test-00000-of-00001.parquet", [1, 0], [20, 21])
    return tmp_path


def reds(path: Path, split: str = "train", **selection: object) -> list[int]:
    return load_images(ParquetConfig(path=path, **selection), split).images[:, 0, 0, 0].tolist()


def test_shards_are_read_in_order_and_named_by_the_metadata(root):
    train = load_images(ParquetConfig(path=root), "train")
    assert train.class_names == ("cat", "dog", "emu")
    assert train.images.shape == (8, 3, 4, 3)
    assert train.images[:, 0, 0, 0].tolist() == list(range(10, 18))
    assert train.labels.tolist() == [0, 1, 2, 1, 0, 2, 2, 0]
    assert train.labels.dtype == np.int64
    assert train.ids.tolist() == list(range(8))
    assert reds(root, "test") == [20, 21]


def test_shards_may_lie_in_the_folder_itself(root):
    assert reds(root / "data") == reds(root)


@pytest.mark.parametrize("prefix", ["validation", "val"])
def test_validation_shards_stand_in_for_test_shards(root, prefix):
    write(root / f"data/{prefix}-00000-of-00001.parquet", [0], [30])
    assert reds(root, "test") == [20, 21]
    (root / "data/test-00000-of-00001.parquet").unlink()
    assert reds(root, "test") == [30]


@pytest.mark.parametrize(
    "columns",
    [("image", "label"), ("img", "fine_label"), ("img", "label"), ("image", "fine_label")],
)
def test_the_usual_column_names_are_known(tmp_path, columns):
    write(tmp_path / "train-0.parquet", [1, 0], [1, 2], columns=columns, names=["x", "y"])
    train = load_images(ParquetConfig(path=tmp_path), "train")
    assert train.labels.tolist() == [1, 0]
    assert train.class_names == ("x", "y")


def test_images_may_be_plain_binary(tmp_path):
    table = pa.table({"image": pa.array([png(5), png(6)], pa.binary()), "label": [0, 1]})
    pq.write_table(table, tmp_path / "train-0.parquet")
    assert reds(tmp_path) == [5, 6]


def test_only_the_chosen_images_are_decoded(tmp_path):
    write(tmp_path / "train-0.parquet", [0, 2, 1, 2, 0, 1], [1, b"x", 3, b"x", 5, b"x"])
    assert reds(tmp_path, classes=("dog", "cat"), images_per_class=1) == [1, 3]


def test_without_metadata_classes_are_numbers_counted_over_both_splits(tmp_path):
    write(tmp_path / "train-0.parquet", [0, 3, 1, 2], [1, 2, 3, 4], names=None)
    write(tmp_path / "test-0.parquet", [1, 0], [5, 6], names=None)
    for split in ("train", "test"):
        chosen = load_images(ParquetConfig(path=tmp_path), split)
        assert chosen.class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize("metadata", [b"{", b"[]", b'{"info": {"features": {"label": {}}}}'])
def test_metadata_without_names_is_as_good_as_none(root, metadata):
    for shard in (root / "data").iterdir():
        table = pq.read_table(shard).replace_schema_metadata({"huggingface": metadata})
        pq.write_table(table, shard)
    assert load_images(ParquetConfig(path=root), "train").class_names == ("0", "1", "2")


def test_images_without_a_label_are_left_out(tmp_path):
    write(tmp_path / "train-0.parquet", [0, None, 1, -1], [1, 2, 3, 4])
    assert reds(tmp_path, classes=2) == [1, 3]


def test_an_unlabelled_test_split_is_refused(root):
    write(root / "data/test-00000-of-00001.parquet", [-1, -1], [1, 2])
    with pytest.raises(ConfigError, match="has no labels to test with: in test-"):
        reds(root, "test")


def test_images_of_many_sizes_need_an_image_size(tmp_path):
    write(tmp_path / "train-0.parquet", [0, 1, 2], [1, 2, png(3, (8, 9))])
    with pytest.raises(DataError, match=r"train-0.parquet, row 2: 8x9 .*set dataset.image_size"):
        reds(tmp_path)
    assert reds(tmp_path, image_size=2) == [1, 2, 3]


def test_resize_is_the_shorter_side_before_the_crop(tmp_path):
    """Of 8x4, white on the left: the middle at full resolution, not the middle of 4x2."""
    image, file = Image.new("RGB", (8, 4), (255, 255, 255)), BytesIO()
    image.paste((0, 0, 0), (4, 0, 8, 4))
    image.save(file, "PNG")
    write(tmp_path / "train-0.parquet", [0, 1], [file.getvalue()] * 2, names=["x", "y"])
    images = load_images(ParquetConfig(path=tmp_path, image_size=2, resize=4), "train").images
    assert images[0, :, :, 0].tolist() == [[255, 0], [255, 0]]
    images = load_images(ParquetConfig(path=tmp_path, image_size=2), "train").images
    assert images[0, :, :, 0].tolist() != [[255, 0], [255, 0]]


@pytest.mark.parametrize(
    ("cell", "message"), [(b"x", "not a readable image"), (None, "holds no image bytes")]
)
def test_a_damaged_image_is_named_by_file_and_row(root, cell, message):
    write(root / "data/train-00001-of-00002.parquet", [2, 2, 1, 0], [1, 2, 3, cell])
    with pytest.raises(DataError, match=rf"train-00001-of-00002.parquet, row 3: {message}"):
        reds(root)


def test_missing_folders_and_shards_are_config_errors(root):
    with pytest.raises(ConfigError, match=r"^dataset.path: there is no folder"):
        reds(root / "nowhere")
    (root / "data/test-00000-of-00001.parquet").unlink()
    wanted = r"test-\*.parquet or validation-\*.parquet or valid-\*.parquet or val-\*.parquet"
    with pytest.raises(ConfigError, match=rf"^dataset.path: .* has no {wanted}"):
        reds(root, "test")
    for shard in (root / "data").iterdir():
        shard.unlink()
    with pytest.raises(ConfigError, match=r"has no train-\*.parquet, nor has its folder data/"):
        reds(root, "test")


def test_a_damaged_shard_is_named(root):
    shard = root / "data/train-00001-of-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet: cannot be read: ") as error:
        reds(root)
    assert "\n" not in str(error.value)


def test_a_shard_damaged_among_its_images_is_named(root):
    shard = root / "data/train-00001-of-00002.parquet"
    data = bytearray(shard.read_bytes())
    data[4:40] = b"\xff" * 36
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet"):
        reds(root)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("picture", "label"), r"no column 'image' or 'img' \(columns: picture, label\)"),
        (("image", "target"), r"no column 'label' or 'fine_label' \(columns: image, target\)"),
    ],
)
def test_missing_columns_are_named(tmp_path, columns, message):
    write(tmp_path / "train-0.parquet", [0, 1], [1, 2], columns=columns)
    with pytest.raises(DataError, match=f"train-0.parquet: {message}"):
        load_images(ParquetConfig(path=tmp_path, classes=2), "train")


def test_a_struct_without_bytes_is_refused(tmp_path):
    table = pa.table({"image": [{"path": "a"}, {"path": "b"}], "label": [0, 1]})
    pq.write_table(table, tmp_path / "train-0.parquet")
    with pytest.raises(DataError, match=r"column 'image' has no field 'bytes'"):
        reds(tmp_path)


def test_labels_must_be_whole_numbers_of_known_classes(tmp_path):
    write(tmp_path / "train-0.parquet", ["cat", "dog"], [1, 2])
    with pytest.raises(DataError, match="column 'label' holds string, not whole numbers"):
        reds(tmp_path)
    write(tmp_path / "train-0.parquet", [0, 3], [1, 2])
    with pytest.raises(DataError, match=r"row 1: label 3, but there are 3 classes"):
        reds(tmp_path)


def test_images_of_16_bits_are_scaled_and_that_is_told(tmp_path):
    file = BytesIO()
    Image.fromarray(np.full((3, 4), 257 * 100, np.uint16)).save(file, "PNG")
    shard = tmp_path / "train-00000-of-00001.parquet"
    write(shard, [0, 1], [100, file.getvalue()], names=["cat", "dog"])
    train = load_images(ParquetConfig(path=tmp_path), "train")
    assert train.images[:, 0, 0, 0].tolist() == [100, 100]
    assert train.notices == (
        "among the 2 train images: 1 with more than 8 bits per channel, scaled to 8 "
        f"({shard}, row 1)",
    )


def test_training_shards_alone_have_no_test_split(tmp_path):
    write(tmp_path / "train-00000-of-00001.parquet", [0, 1], [1, 2])
    config = ParquetConfig(path=tmp_path)
    assert missing_test_split(config) == (
        f"dataset.path: '{tmp_path}' has no test-*.parquet or validation-*.parquet or "
        "valid-*.parquet or val-*.parquet, nor has its folder data/"
    )
    write(tmp_path / "test-00000-of-00001.parquet", [0, 1], [1, 2])
    assert missing_test_split(config) is None


# --- whole sets of shards, and labels in them


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_shard_is_named_whichever_split_is_read(root, split):
    (root / "data/train-00001-of-00002.parquet").unlink()
    with pytest.raises(ConfigError, match=r"lacks train-00001-of-00002.parquet: 1 of 2 files"):
        reds(root, split)


def test_shards_in_two_folders_are_refused(root):
    write(root / "train-00000-of-00001.parquet", [0, 1], [1, 2])
    with pytest.raises(ConfigError) as error:
        reds(root)
    assert str(error.value) == (
        f"dataset.path: '{root}' has train-*.parquet, and so has its folder data/; pass "
        f"dataset.path={root}/data for those, or move one of the two away"
    )
    assert reds(root / "data")[:2] == [10, 11]


@pytest.mark.parametrize("missing", [-1, None, -7])
def test_images_without_a_label_are_counted(tmp_path, missing):
    write(tmp_path / "train-0.parquet", [0, missing, 1, missing], [1, 2, 3, 4])
    write(tmp_path / "test-0.parquet", [0, 1, missing], [1, 2, 3])
    for split, count in (("train", "2 of 4"), ("test", "1 of 3")):
        (notice,) = load_images(ParquetConfig(path=tmp_path, classes=2), split).notices
        assert notice == (
            f"{tmp_path}, {split} split: {count} images have no label and are left out"
        )


def test_nothing_is_said_where_all_have_labels(root):
    assert load_images(ParquetConfig(path=root), "train").notices == ()
    assert load_images(ParquetConfig(path=root), "test").notices == ()


@pytest.mark.parametrize("unlabelled", [[-1, -1], [None, None], [-1, None]])
@pytest.mark.parametrize("prefix", ["validation", "valid", "val"])
def test_a_labelled_validation_split_is_taken_before_an_unlabelled_test_split(
    root, unlabelled, prefix
):
    write(root / "data/test-00000-of-00001.parquet", unlabelled, [20, 21])
    write(root / f"data/{prefix}-00000-of-00001.parquet", [1, 0], [30, 31])
    found = load_images(ParquetConfig(path=root), "test")
    assert found.images[:, 0, 0, 0].tolist() == [30, 31]
    assert found.notices == (
        f"{root}: no labels in test-*.parquet; testing is on {prefix}-*.parquet",
    )


def test_a_test_split_without_a_column_of_labels_is_passed_over_too(root):
    write(root / "data/test-00000-of-00001.parquet", [0], [20], columns=("image", "id"))
    with pytest.raises(MissingSplitError, match="there is no column label or fine_label"):
        reds(root, "test")
    write(root / "data/val-00000-of-00001.parquet", [1, 0], [30, 31])
    assert reds(root, "test") == [30, 31]


def test_a_test_split_with_some_labels_is_taken(root):
    write(root / "data/test-00000-of-00001.parquet", [-1, 1], [20, 21])
    write(root / "data/val-00000-of-00001.parquet", [1, 0], [30, 31])
    assert reds(root, "test") == [21]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "`git lfs pull`"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>", r"web page \(HTML\)"),
    ],
)
def test_what_lies_in_a_shards_place_is_recognised(root, content, reason):
    (root / "data/train-00001-of-00002.parquet").write_bytes(content)
    with pytest.raises(DataError, match=rf"train-00001-of-00002.parquet: is .*{reason}"):
        reds(root)


def test_cells_that_are_pointers_are_recognised(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
    write(tmp_path / "train-0.parquet", [0, 1], [1, pointer], names=None)
    with pytest.raises(DataError, match=r"train-0.parquet, row 1: is a pointer of Git LFS"):
        reds(tmp_path)


def test_images_of_which_none_has_a_label_are_of_one_class(tmp_path):
    write(tmp_path / "train-0.parquet", [-1, -1], [1, 2], names=None)
    write(tmp_path / "test-0.parquet", [None, None], [3, 4], names=None)
    for split, values in (("train", [1, 2]), ("test", [3, 4])):
        found = load_images(ParquetConfig(path=tmp_path), split)
        assert found.class_names == ("unlabelled",)
        assert found.labels.tolist() == [0, 0]
        assert found.images[:, 0, 0, 0].tolist() == values
        assert found.notices == ()


def test_a_test_label_that_no_training_image_has_is_named(tmp_path):
    write(tmp_path / "train-0.parquet", [0, 1], [1, 2], names=None)
    write(tmp_path / "test-0.parquet", [0, 2], [3, 4], names=None)
    with pytest.raises(DataError, match=r"test-0.parquet, row 1: label 2, but there are 2 classes"):
        load_images(ParquetConfig(path=tmp_path), "test")
