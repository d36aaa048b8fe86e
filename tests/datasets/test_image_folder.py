import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignctl.config.dataset_configs import ImageFolderConfig
from alignctl.datasets import load_images, missing_test_split
from alignctl.datasets.image_folder import image_folder_source
from alignctl.errors import ConfigError, DataError


def write(path: Path, value: int, size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255 - value)).save(path)


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "train/dog/b.png", 1)
    write(tmp_path / "train/dog/a/z.PNG", 2)
    write(tmp_path / "train/cat/2.bmp", 3)
    write(tmp_path / "train/cat/10.png", 4)
    write(tmp_path / "train/cat/.hidden.png", 5)
    write(tmp_path / "train/.thumbnails/x.png", 6)
    (tmp_path / "train/cat/notes.txt").write_text("not an image")
    (tmp_path / "train/README").write_text("not a class")
    write(tmp_path / "test/dog/q.png", 7)
    write(tmp_path / "test/cat/r.png", 8)
    return tmp_path


def test_images_are_found_in_sorted_order_nested_ones_too(root):
    train = load_images(ImageFolderConfig(path=root), "train")
    assert train.class_names == ("cat", "dog")
    assert train.images.shape == (4, 5, 6, 3)
    assert train.images[:, 0, 0, 0].tolist() == [4, 3, 2, 1]
    assert train.images[:, 0, 0, 2].tolist() == [251, 252, 253, 254]
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.ids.tolist() == [0, 1, 2, 3]


def test_the_test_split_uses_the_classes_of_the_training_split(root):
    write(root / "train/bee/1.png", 9)
    test = load_images(ImageFolderConfig(path=root), "test")
    assert test.class_names == ("bee", "cat", "dog")
    assert test.labels.tolist() == [1, 2]
    assert test.images[:, 0, 0, 0].tolist() == [8, 7]


def test_val_stands_in_for_test_only_where_there_is_no_test(root):
    write(root / "val/cat/1.png", 99)
    config = ImageFolderConfig(path=root)
    assert load_images(config, "test").images[:, 0, 0, 0].tolist() == [8, 7]
    (root / "test").rename(root / "elsewhere")
    assert load_images(config, "test").images[:, 0, 0, 0].tolist() == [99]


def test_only_the_chosen_classes_are_decoded(root):
    write(root / "train/emu/1.png", 1)
    (root / "train/dog/b.png").write_bytes(b"broken")
    chosen = load_images(ImageFolderConfig(path=root, classes=("emu", "cat")), "train")
    assert chosen.labels.tolist() == [1, 1, 0]
    assert chosen.ids.tolist() == [0, 1, 4]


def test_images_of_many_sizes_need_an_image_size(root):
    write(root / "train/dog/c.png", 5, size=(9, 12))
    with pytest.raises(DataError, match=r"train/dog/c.png: 9x12 .*set dataset.image_size"):
        load_images(ImageFolderConfig(path=root), "train")
    sized = load_images(ImageFolderConfig(path=root, image_size=4), "train")
    assert sized.images.shape == (5, 4, 4, 3)
    assert np.array_equal(sized.images[:, 2, 2, 0], [4, 3, 2, 1, 5])


def test_the_centre_can_be_cut_from_a_larger_resolution(root):
    pixels = np.random.default_rng(0).integers(256, size=(20, 30, 3), dtype=np.uint8)
    for path in (root / "train").rglob("*.[PpBb]*"):
        Image.fromarray(pixels).save(path)
    centre = load_images(ImageFolderConfig(path=root, image_size=8, resize=20), "train").images
    assert np.array_equal(centre[0], pixels[6:14, 11:19])
    assert not np.array_equal(
        load_images(ImageFolderConfig(path=root, image_size=8), "train").images[0], centre[0]
    )


def test_files_and_folders_stand_in_the_order_of_their_paths_parts(root):
    names = ["a/b/1.png", "a/b.png", "a-/2.png", "a-.png", "a.png", "c/3.JPEG", "Z.png", "é.png"]
    for name in names:
        write(root / "train/ape" / name, 1, size=(3, 3))
    (root / "train/ape/d.png").mkdir()
    write(root / "train/ape/d.png/4.webp", 1)
    (root / "train/ape/e.png").symlink_to(root / "train/ape/a.png")
    source = image_folder_source(ImageFolderConfig(path=root, classes=("ape", "cat")), "train")
    ids = np.flatnonzero(source.labels == 0)
    expected = sorted(
        root / "train/ape" / name for name in [*names, "d.png/4.webp", "e.png"]
    )  # as sorted(Path) does
    assert [path for _, path in source.encoded(ids)] == expected
    assert [name for name, _ in source.encoded(ids)] == [str(path) for path in expected]


def test_what_is_left_out_is_told_once_in_one_line(root):
    write(root / "train/dog/.ipynb_checkpoints/b-checkpoint.png", 1)
    write(root / "train/__MACOSX/dog/._b.png", 1)
    write(root / "train/loose.png", 1)
    train = load_images(ImageFolderConfig(path=root), "train")
    assert train.class_names == ("cat", "dog")
    assert train.images[:, 0, 0, 0].tolist() == [4, 3, 2, 1]
    assert train.notices == (
        f"left out of {root}/train: 2 files with no image's suffix (1 without a suffix, 1 .txt); "
        "1 hidden file; 3 hidden or tool-made folders (1 .thumbnails, 1 __MACOSX, "
        f"1 .ipynb_checkpoints); 1 image beside the folders of classes ({root}/train/loose.png)",
    )
    assert load_images(ImageFolderConfig(path=root), "test").notices == ()


def test_a_class_of_which_all_was_left_out_says_so(root):
    (root / "train/eel").mkdir()
    (root / "train/eel/1.heic").touch()
    with pytest.raises(ConfigError, match=r"^dataset.classes: 'eel' has no .* 1 \.heic\)"):
        load_images(ImageFolderConfig(path=root), "train")


def test_what_images_lose_is_told(root):
    Image.new("RGBA", (6, 5)).save(root / "test/cat/s.png")
    assert load_images(ImageFolderConfig(path=root), "test").notices == (
        "among the 3 test images: 1 with transparent parts, shown without transparency "
        f"({root}/test/cat/s.png)",
    )


@pytest.mark.parametrize("layout", ["train/{}", "{}"])
def test_images_without_folders_of_classes_have_no_labels(tmp_path, layout):
    for number, name in enumerate(("b.png", "a.jfif", ".c.png", "d.txt")):
        write(tmp_path / layout.format(f"{name}.png"), number)
        (tmp_path / layout.format(f"{name}.png")).rename(tmp_path / layout.format(name))
    write(tmp_path / "test/deep/q.png", 7)
    train = load_images(ImageFolderConfig(path=tmp_path), "train")
    assert train.class_names == ("unlabelled",)
    assert train.images[:, 0, 0, 0].tolist() == [1, 0]
    assert train.labels.tolist() == [0, 0]
    test = load_images(ImageFolderConfig(path=tmp_path), "test")
    assert (test.class_names, test.labels.tolist()) == (("unlabelled",), [0])


# --- a part of train/ for testing


@pytest.fixture
def trained_only(tmp_path):
    """Images of 10, 3 and 1 in three classes of train/."""
    for name, count in (("a", 10), ("b", 3), ("c", 1)):
        for number in range(count):
            write(tmp_path / f"train/{name}/{number}.png", number, size=(2, 2))
    return tmp_path


def names_of(source):
    encoded = source.encoded(np.arange(len(source.labels)))
    return ["/".join(path.parts[-2:]) for _, path in encoded]


@pytest.mark.parametrize(("fraction", "counts"), [(0.2, [2, 1]), (0.01, [1, 1]), (0.99, [9, 2])])
def test_a_share_of_every_class_is_set_aside_and_something_is_left_to_train_on(
    trained_only, fraction, counts
):
    config = ImageFolderConfig(path=trained_only, test_fraction=fraction)
    train, test = (image_folder_source(config, split) for split in ("train", "test"))
    assert np.bincount(test.labels, minlength=3).tolist() == [*counts, 0]
    assert sorted(names_of(train) + names_of(test)) == names_of(
        image_folder_source(ImageFolderConfig(path=trained_only), "train")
    )
    assert train.class_names == test.class_names == ("a", "b", "c")


def test_which_images_are_set_aside_depends_on_their_names_alone(trained_only, tmp_path):
    config = ImageFolderConfig(path=trained_only, test_fraction=0.5)
    test = names_of(image_folder_source(config, "test"))
    assert test == ["a/0.png", "a/1.png", "a/2.png", "a/7.png", "a/8.png", "b/0.png", "b/2.png"]
    elsewhere = tmp_path / "elsewhere"
    shutil.move(trained_only / "train", elsewhere / "train")
    moved = ImageFolderConfig(path=elsewhere, test_fraction=0.5)
    assert names_of(image_folder_source(moved, "test")) == test


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_part_is_set_aside_where_there_are_test_images(root, split):
    config = ImageFolderConfig(path=root, test_fraction=0.5)
    with pytest.raises(ConfigError) as error:
        image_folder_source(config, split)
    assert str(error.value) == (
        f"dataset.test_fraction: '{root}/test' holds test images; leave the key out to use them"
    )


def test_encoded_images_come_in_the_order_asked_for(root):
    source = image_folder_source(ImageFolderConfig(path=root), "train")
    paths = [path for _, path in source.encoded(np.array([3, 0, 3]))]
    assert [str(path.relative_to(root)) for path in paths] == [
        "train/dog/b.png", "train/cat/10.png", "train/dog/b.png",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_read_is_named(root, monkeypatch):
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("dog/a"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    with pytest.raises(DataError, match=r"train/dog/a: cannot be read: Permission denied$"):
        image_folder_source(ImageFolderConfig(path=root), "train")


def test_a_corrupt_image_is_named(root):
    (root / "train/dog/b.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"train/dog/b.png: not a readable image"):
        load_images(ImageFolderConfig(path=root), "train")


@pytest.mark.parametrize(
    ("missing", "split", "message"),
    [
        ("", "train", "there is no folder"),
        ("train", "train", "has no folder train/"),
        ("train", "test", "has no folder train/"),
        ("test", "test", "has no folder test/ or val/"),
    ],
)
def test_missing_folders_are_config_errors(root, missing, split, message):
    shutil.rmtree(root / missing)
    with pytest.raises(ConfigError, match=f"^dataset.path: .*{message}"):
        load_images(ImageFolderConfig(path=root), split)


def test_a_file_is_no_image_folder(root):
    with pytest.raises(ConfigError, match=r"^dataset.path: there is no folder"):
        load_images(ImageFolderConfig(path=root / "train/README"), "train")


def test_a_test_class_that_was_never_trained_is_refused(root):
    write(root / "test/dgo/1.png", 1)
    message = (
        f"dataset.path: '{root}/test/dgo' is not a class of '{root}/train'; did you mean 'dog'? "
        "(cat, dog); dataset.unknown_classes=ignore leaves out such classes"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_images(ImageFolderConfig(path=root), "test")


def test_a_test_class_that_was_never_trained_can_be_left_out(root):
    write(root / "test/ant/1.png", 1)
    write(root / "test/dgo/1.png", 1)
    test = load_images(ImageFolderConfig(path=root, unknown_classes="ignore"), "test")
    assert test.class_names == ("cat", "dog")
    assert test.images[:, 0, 0, 0].tolist() == [8, 7]
    assert test.notices == (f"left out of {root}/test: ant, dgo, which {root}/train does not have",)


def test_folders_without_classes_or_images_are_refused(root):
    (root / "empty/train").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"has no class folders and no images; it is empty$"):
        load_images(ImageFolderConfig(path=root / "empty"), "train")
    (root / "train/eel").mkdir()
    with pytest.raises(ConfigError, match="'eel' has no training images"):
        load_images(ImageFolderConfig(path=root), "train")


def test_a_missing_test_split_is_known_without_reading_images(root, tmp_path):
    config = ImageFolderConfig(path=root)
    assert missing_test_split(config) is None
    shutil.rmtree(root / "test")
    assert missing_test_split(config).startswith(f"dataset.path: '{root}' has no folder test/")
    assert missing_test_split(ImageFolderConfig(path=root, test_fraction=0.5)) is None
    assert missing_test_split(ImageFolderConfig(path=tmp_path / "gone")) is None  # another error
