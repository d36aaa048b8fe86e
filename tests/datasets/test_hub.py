import io
import json
import multiprocessing
import socket
import tarfile
from pathlib import Path

import datasets
import huggingface_hub.constants
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignctl.config.dataset_configs import HubConfig
from alignctl.datasets import DATASETS, load_images
from alignctl.datasets.hub import hub_source
from alignctl.errors import ConfigError, DataError, MissingSplitError

NAMES = ["cat", "dog", "emu"]
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """An empty cache of the library, and no network: all that these tests read are folders."""

    def refuse(*arguments):
        raise AssertionError(f"a connection: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    cache = tmp_path_factory.mktemp("huggingface")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "datasets")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache / "hub"))
    return cache


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def png(red: int, size: tuple[int, int] = (4, 3)) -> bytes:
    return encode(Image.new("RGB", size, (red, 0, 0)))


def cells(images: list) -> pa.Array:
    """As the hub stores images; integers stand for images of that red."""
    data = [png(image) if isinstance(image, int) else image for image in images]
    return pa.array([{"bytes": cell, "path": None} for cell in data], IMAGE_TYPE)


def write(
    path: Path,
    images: list | pa.Array,
    labels: list,
    *,
    names: list[str] | None = NAMES,
    columns: tuple[str, str] = ("image", "label"),
) -> None:
    """A parquet file as the hub has them; names: with the metadata that its library writes."""
    images = images if isinstance(images, pa.Array) else cells(images)
    table = pa.table({columns[0]: images, columns[1]: pa.array(labels)})
    if names is not None:
        label = {"names": names, "_type": "ClassLabel"}
        features = {columns[0]: {"_type": "Image"}, columns[1]: label}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)


@pytest.fixture
def root(tmp_path):
    """A copy of a repository of the hub."""
    folder = tmp_path / "copy"
    write(folder / "data/train-00000-of-00002.parquet", [10, 11, 12, 13, 14], [0, 1, 2, 1, 0])
    write(folder / "data/train-00001-of-00002.parquet", [15, 16, 17], [2, 2, 0])
    write(folder / "data/test-00000-of-00001.parquet", [20, 21], [1, 0])
    return folder


def config_of(path: Path, **options: object) -> HubConfig:
    return HubConfig(name="huggingface", path=str(path), **options)


def reds(path: Path, split: str = "train", **options: object) -> list[int]:
    return load_images(config_of(path, **options), split).images[:, 0, 0, 0].tolist()


def test_a_copy_of_a_repository_is_read_in_the_order_of_its_shards(root):
    train = load_images(config_of(root), "train")
    assert train.images.shape == (8, 3, 4, 3)
    assert train.images[:, 0, 0, 0].tolist() == list(range(10, 18))
    assert train.labels.tolist() == [0, 1, 2, 1, 0, 2, 2, 0]
    assert train.labels.dtype == np.int64
    assert train.ids.tolist() == list(range(8))
    assert train.class_names == ("cat", "dog", "emu")
    test = load_images(config_of(root), "test")
    assert (test.images[:, 0, 0, 0].tolist(), test.labels.tolist()) == ([20, 21], [1, 0])
    assert test.class_names == train.class_names


def test_files_that_the_library_itself_writes(tmp_path):
    kinds = {"img": datasets.Image(), "fine_label": datasets.ClassLabel(names=NAMES)}
    images = [Image.new("RGB", (4, 3), (red, 0, 0)) for red in (5, 6, 7)]
    for split in ("train", "test"):
        rows = {"img": images, "fine_label": [2, 0, 1]}
        dataset = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
        dataset.to_parquet(str(tmp_path / f"{split}.parquet"))
    train = load_images(config_of(tmp_path), "train")
    assert train.images[:, 0, 0, 0].tolist() == [5, 6, 7]
    assert (train.labels.tolist(), train.class_names) == ([2, 0, 1], tuple(NAMES))


def test_images_in_class_folders(tmp_path):
    for split, classes in (("train", "ab"), ("val", "b")):
        for name in classes:
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for red in (1, 2):
                (folder / f"{red}.png").write_bytes(png(red + (100 if name == "b" else 0)))
    train = load_images(config_of(tmp_path), "train")
    assert train.images[:, 0, 0, 0].tolist() == [1, 2, 101, 102]
    assert (train.labels.tolist(), train.class_names) == ([0, 0, 1, 1], ("a", "b"))
    test = load_images(config_of(tmp_path), "test")
    assert test.images[:, 0, 0, 0].tolist() == [101, 102]
    assert (test.labels.tolist(), test.class_names) == ([1, 1], ("a", "b"))


def write_shard(path: Path, samples: list[dict[str, bytes]], *, first: int = 0) -> None:
    with tarfile.open(path, "w") as archive:
        for number, sample in enumerate(samples, start=first):
            for extension, data in sample.items():
                member = tarfile.TarInfo(f"{number:06}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize(("extension", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_webdataset_shards(tmp_path, extension, kind):
    grey = [encode(Image.new("L", (8, 8), value), kind) for value in (0, 60, 120, 180, 240)]
    samples = [
        {extension: data, "cls": str(index % 2).encode(), "json": b'{"n": 1}'}
        for index, data in enumerate(grey)
    ]
    write_shard(tmp_path / "train-0000.tar", samples[:2])
    write_shard(tmp_path / "train-0001.tar", samples[2:4], first=2)
    write_shard(tmp_path / "validation-0000.tar", samples[3:], first=3)
    train, test = (load_images(config_of(tmp_path), split) for split in ("train", "test"))
    assert train.images.shape == (4, 8, 8, 3)
    assert np.abs(train.images[:, 0, 0].astype(int) - [[0], [60], [120], [180]]).max() <= 3
    assert np.abs(test.images[:, 0, 0].astype(int) - [[180], [240]]).max() <= 3
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 0, 1], [1, 0])
    assert train.class_names == test.class_names == ("0", "1")


def test_the_images_of_any_ids_in_any_order(root):
    source = hub_source(config_of(root), "train")
    ids = np.array([7, 0, 5, 5, 4])
    assert list(source.encoded(ids)) == [
        (f"{root}, split train, row {row}", png(10 + row)) for row in ids
    ]
    assert list(source.encoded(ids[:0])) == []


def test_images_of_several_arrow_chunks(tmp_path):
    """More rows than the library writes at once."""
    stored = [png(value % 256, (2, 2)) for value in range(2500)]
    write(tmp_path / "train.parquet", stored, [index % 3 for index in range(2500)])
    source = hub_source(config_of(tmp_path), "train")
    ids = np.random.default_rng(0).permutation(2500)
    assert [data for _, data in source.encoded(ids)] == [stored[row] for row in ids]


def test_images_can_be_had_in_a_forked_process(root):
    source = hub_source(config_of(root), "train")
    answers, ours = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=lambda: ours.send(list(source.encoded(np.array([6, 1]))))
    )
    process.start()
    assert answers.recv() == list(source.encoded(np.array([6, 1])))
    process.join()


def test_files_are_mapped_and_not_held(tmp_path):
    """Of 20 MB of images the process holds the two that were asked for."""
    noise = np.random.default_rng(0).integers(256, size=10**6, dtype=np.uint8).tobytes()
    for shard in range(4):
        table = pa.table({"image": [noise] * 5, "label": [0, 1, 0, 1, 0]})
        pq.write_table(table, tmp_path / f"train-{shard:05}-of-00004.parquet")
    del table
    before = pa.total_allocated_bytes()
    source = hub_source(config_of(tmp_path), "train")
    images = [data for _, data in source.encoded(np.array([0, 19]))]
    assert pa.total_allocated_bytes() - before < 10**6
    assert images == [noise, noise]


def test_a_changed_file_is_noticed(root):
    assert reds(root, "test") == [20, 21]
    write(root / "data/test-00000-of-00001.parquet", [30, 31, 32], [1, 0, 1])
    assert reds(root, "test") == [30, 31, 32]


@pytest.mark.parametrize("image", ["image", "img", "jpg", "jpeg", "png", "webp"])
@pytest.mark.parametrize("label", ["label", "labels", "fine_label", "cls", "target"])
def test_the_usual_columns_are_known(tmp_path, image, label):
    write(tmp_path / "train.parquet", [1, 2], [1, 0], columns=(image, label), names=["x", "y"])
    source = hub_source(config_of(tmp_path), "train")
    assert source.labels.tolist() == [1, 0]
    assert next(source.encoded(np.array([1])))[1] == png(2)


def test_other_columns_can_be_named(tmp_path):
    write(tmp_path / "train.parquet", [1, 2], [1, 0], columns=("picture", "kind"))
    assert reds(tmp_path, image_column="picture", label_column="kind", classes=2) == [1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_column": "imag"}, r"image_column: 'imag' is not a column of .*; did you mean 'im"),
        ({"label_column": "klass"}, r"label_column: 'klass' is not a column of .*copy \(image, la"),
        ({"image_column": "label"}, r"image_column: 'label' of .* holds int64, not images"),
        ({"label_column": "image"}, r"label_column: 'image' of .* holds struct<.*>, neither whole"),
        ({"train_split": "trian"}, r"train_split: 'trian' is not a split of .*mean 'train'\? \(tr"),
    ],
)
def test_columns_and_splits_that_are_not_there_are_named(root, options, message):
    with pytest.raises(ConfigError, match=rf"^dataset.{message}"):
        hub_source(config_of(root, **options), "train")


def test_a_test_split_that_is_not_there_is_named(root):
    with pytest.raises(ConfigError, match=r"^dataset.test_split: 'tests' .*mean 'test'\? \(train,"):
        hub_source(config_of(root, test_split="tests"), "test")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("picture", "label"), r"image_column: .* none of .*webp; .* own \(picture, label\)"),
        (("image", "kind"), r"label_column: .* none of .*target; .* own \(image, kind\)"),
    ],
)
def test_columns_without_a_usual_name_have_to_be_named(tmp_path, columns, message):
    write(tmp_path / "train.parquet", [1, 2], [1, 0], columns=columns)
    with pytest.raises(ConfigError, match=rf"^dataset.{message}"):
        hub_source(config_of(tmp_path), "train")


@pytest.mark.parametrize("name", ["test", "validation"])
def test_the_test_split_is_the_first_one_with_labels(root, name):
    write(root / "data/validation-00000-of-00001.parquet", [30], [2])
    if name == "validation":  # as ILSVRC/imagenet-1k has it
        write(root / "data/test-00000-of-00001.parquet", [20, 21], [-1, -1])
    assert reds(root, "test") == {"test": [20, 21], "validation": [30]}[name]
    assert reds(root, "test", test_split="validation") == [30]


@pytest.mark.parametrize("name", ["valid", "val", "validation"])
def test_a_validation_split_under_any_name_is_the_test_split(root, name):
    """Under the names that a repository's card gives its files, as zh-plus/tiny-imagenet does."""
    (root / "data/test-00000-of-00001.parquet").rename(root / "data/other.parquet")
    files = {"train": "data/train-*", name: "data/other.parquet"}
    lines = [f"  - split: {split}\n    path: {path}" for split, path in files.items()]
    configs = "\n".join(["configs:", "- config_name: default", "  data_files:", *lines])
    (root / "README.md").write_text(f"---\n{configs}\n---\n")
    assert reds(root, "test") == [20, 21]


@pytest.mark.parametrize("labels", [[-1, -1], [None, None]])
def test_without_labels_in_any_test_split_one_has_to_be_named(root, labels):
    write(root / "data/test-00000-of-00001.parquet", [20, 21], pa.array(labels, pa.int64()))
    with pytest.raises(
        ConfigError,
        match=r"^dataset.test_split: .* no labels in a split test, validation, valid, val; "
        r"name another \(train, test\)",
    ):
        hub_source(config_of(root), "test")
    assert reds(root, "test", test_split="train") == reds(root)


def test_images_without_a_label_are_left_out(tmp_path):
    write(tmp_path / "train.parquet", [1, 2, 3, 4], [0, None, 1, -1])
    assert reds(tmp_path, classes=2) == [1, 3]


def test_classes_without_names_are_the_numbers_of_the_train_split(tmp_path):
    write(tmp_path / "train.parquet", [1, 2, 3, 4], [0, 3, 1, 2], names=None)
    write(tmp_path / "test.parquet", [5, 6], [1, 0], names=None)
    for split in ("train", "test"):
        assert load_images(config_of(tmp_path), split).class_names == ("0", "1", "2", "3")
    write(tmp_path / "test.parquet", [5, 6], [1, 4], names=None)
    with pytest.raises(DataError, match=r"split test, row 1: label '4', but there are 4 classes"):
        hub_source(config_of(tmp_path), "test")


def test_words_are_classes_in_sorted_order(tmp_path):
    write(tmp_path / "train.parquet", [1, 2, 3, 4], ["emu", "cat", None, "emu"], names=None)
    write(tmp_path / "test.parquet", [5, 6], ["emu", "emu"], names=None)
    train, test = (load_images(config_of(tmp_path), split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("cat", "emu")
    assert (train.labels.tolist(), train.ids.tolist()) == ([1, 0, 1], [0, 1, 3])
    assert test.labels.tolist() == [1, 1]
    write(tmp_path / "test.parquet", [5, 6], ["emu", "owl"], names=None)
    with pytest.raises(DataError, match=r"split test, row 1: label 'owl', but there are 2 classes"):
        hub_source(config_of(tmp_path), "test")


def test_a_test_split_without_words_has_no_labels(tmp_path):
    write(tmp_path / "train.parquet", [1, 2], ["emu", "cat"], names=None)
    write(tmp_path / "test.parquet", [5], pa.array([None], pa.string()), names=None)
    write(tmp_path / "validation.parquet", [6], ["cat"], names=None)
    assert reds(tmp_path, "test") == [6]


def test_labels_beyond_the_named_classes_are_refused(root):
    write(root / "data/train-00001-of-00002.parquet", [15, 16], [2, 3])
    with pytest.raises(DataError, match=r"copy, split train, row 6: label '3', but there are 3"):
        hub_source(config_of(root), "train")


def test_no_image_is_decoded_for_the_labels(tmp_path):
    write(tmp_path / "train.parquet", [b"x", 2, b"x", 4], [2, 1, 2, 0])
    assert hub_source(config_of(tmp_path), "train").labels.tolist() == [2, 1, 2, 0]
    assert reds(tmp_path, classes=("dog", "cat")) == [2, 4]


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1"])
def test_images_of_other_colours_become_rgb(tmp_path, mode):
    image = Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode)
    data = encode(image, "JPEG" if mode == "CMYK" else "PNG")
    write(tmp_path / "train.parquet", [data, data], [0, 1], names=["x", "y"])
    images = load_images(config_of(tmp_path), "train").images
    assert images.shape == (2, 3, 4, 3)
    assert (images == 255).all()


def test_images_may_be_plain_bytes_or_paths(tmp_path):
    (tmp_path / "outside.png").write_bytes(png(6))
    for kind, cell in {
        "bytes": pa.array([png(5), png(5)], pa.binary()),
        "paths": pa.array([{"path": str(tmp_path / "outside.png")}] * 2),
    }.items():
        write(tmp_path / kind / "train.parquet", cell, [0, 1], names=None)
    assert reds(tmp_path / "bytes") == [5, 5]
    assert reds(tmp_path / "paths") == [6, 6]
    place = f"{tmp_path}/paths, split train, row 1: {tmp_path}/outside.png"
    source = hub_source(config_of(tmp_path / "paths"), "train")
    assert list(source.encoded(np.array([1]))) == [(place, tmp_path / "outside.png")]


def test_images_are_resized_and_cropped(tmp_path):
    """From 8x4 by way of 4x2, whose right half is black: the crop is the middle, 2x2."""
    image = Image.new("RGB", (8, 4), (255, 255, 255))
    image.paste((0, 0, 0), (4, 0, 8, 4))
    write(tmp_path / "train.parquet", [encode(image)] * 2, [0, 1], names=["x", "y"])
    small = load_images(config_of(tmp_path, image_size=2), "train").images
    assert small.shape == (2, 2, 2, 3)
    large = load_images(config_of(tmp_path, image_size=2, resize=4), "train").images
    assert large[0, :, :, 0].tolist() == [[255, 0], [255, 0]]


@pytest.mark.parametrize(
    ("cell", "message"),
    [(b"x", "not a readable image: no known format"), (None, "holds no image")],
)
def test_a_damaged_image_is_named_by_split_and_row(root, cell, message):
    write(root / "data/train-00001-of-00002.parquet", [15, cell, 17], [2, 1, 0])
    with pytest.raises(DataError, match=rf"^{root}, split train, row 6: {message}$"):
        reds(root)


def test_a_damaged_file_of_a_class_folder_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "0.png").write_bytes(png(1))
    damaged = tmp_path / "train/b/0.png"
    damaged.write_bytes(b"x")
    with pytest.raises(DataError, match=rf"split train, row 1: {damaged}: not a readable image"):
        reds(tmp_path)


def test_the_sets_of_the_paper_are_registered():
    for name in ("huggingface", "tiny_imagenet", "mini_imagenet", "full_imagenet"):
        assert DATASETS[name] is hub_source


def test_what_is_left_out_and_passed_over_is_said(root):
    write(root / "data/test-00000-of-00001.parquet", [20, 21], [-1, -1])
    write(root / "data/validation-00000-of-00001.parquet", [30, 31, 32], [2, -1, -1])
    assert load_images(config_of(root), "train").notices == ()
    assert load_images(config_of(root), "test").notices == (
        f"{root}: no labels in split test; testing is on split validation",
        f"{root}, split validation: 2 of 3 images have no label and are left out",
    )


def test_a_data_set_without_labels_to_test_with_has_no_test_split(root):
    write(root / "data/test-00000-of-00001.parquet", [20, 21], [-1, -1])
    with pytest.raises(MissingSplitError):
        hub_source(config_of(root), "test")


@pytest.mark.parametrize("shard", ["00000", "00001"])
def test_a_missing_shard_is_named(root, shard):
    (root / f"data/train-{shard}-of-00002.parquet").unlink()
    with pytest.raises(ConfigError, match=rf"lacks train-{shard}-of-00002.parquet: 1 of 2"):
        reds(root, "test")


def test_a_pointer_of_git_lfs_is_named(root):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
    (root / "data/test-00000-of-00001.parquet").write_bytes(pointer)
    with pytest.raises(DataError, match=r"^.*/test-00000-of-00001.parquet: is .* `git lfs pull`"):
        reds(root)
