import os
from pathlib import Path

import pytest
from PIL import Image

from alignctl.datasets.image_files import LeftOut, image_files, image_suffixes


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder, *, within=None):
    """The names of the images below a folder, and what is told of the rest."""
    left_out = LeftOut()
    files = image_files(folder, within=within or folder, left_out=left_out)
    names = [os.path.relpath(file, folder) for file in files]
    return names, left_out.notice(Path("train"))


@pytest.mark.parametrize(
    "name",
    ["a.jfif", "a.jpe", "a.JPEG", "a.jpg", "a.png", "a.bmp", "a.gif", "a.tif", "a.TIFF", "a.ppm",
     "a.pgm", "a.pbm", "a.tga", "a.webp"],
)  # fmt: skip
def test_every_suffix_of_a_picture_is_taken(tmp_path, name):
    touch(tmp_path / name)
    assert found(tmp_path) == ([name], None)


def test_suffixes_are_those_that_the_installed_pillow_reads_as_pictures():
    known = Image.registered_extensions()
    assert {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff"} <= set(
        image_suffixes()
    )
    assert all(known[suffix] in Image.OPEN for suffix in image_suffixes())
    assert not {".pdf", ".eps", ".h5", ".mpg", ".psd", ".ico", ".fits"} & set(image_suffixes())


def test_files_that_are_no_images_are_counted_by_suffix(tmp_path):
    names = ["a.png", "b.txt", "c.TXT", "d.heic", "README", "e.png.part", "._a.png", ".hidden.jpg"]
    touch(*(tmp_path / name for name in names))
    assert found(tmp_path) == (
        ["a.png"],
        "left out of train: 5 files with no image's suffix (2 .txt, 1 without a suffix, 1 .heic, "
        "1 .part); 2 hidden files",
    )


def test_of_many_suffixes_the_commonest_are_named(tmp_path):
    touch(*(tmp_path / f"{letter}.{letter}" for letter in "abcdefg"), tmp_path / "x.g")
    assert found(tmp_path)[1] == (
        "left out of train: 8 files with no image's suffix (2 .g, 1 .a, 1 .b, 1 .c, 1 .d, "
        "2 more kinds)"
    )


@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".thumbnails", "lost+found", "$RECYCLE.BIN",
     "System Volume Information", ".git", ".Trash-1000", "#recycle", "__pycache__"],
)  # fmt: skip
def test_hidden_and_tool_made_folders_are_passed_over_at_every_level(tmp_path, name):
    touch(tmp_path / "a.png", tmp_path / name / "b.png", tmp_path / "x" / name / "y/c.png")
    touch(tmp_path / "x/d.png")
    assert found(tmp_path) == (
        ["a.png", "x/d.png"],
        f"left out of train: 2 hidden or tool-made folders (2 {name})",
    )


# --- links


def test_linked_folders_are_followed(tmp_path):
    touch(tmp_path / "store/1.png", tmp_path / "store/deep/2.png", tmp_path / "train/dog/3.png")
    (tmp_path / "train/dog/more").symlink_to(tmp_path / "store")
    names, told = found(tmp_path / "train/dog", within=tmp_path / "train")
    assert (names, told) == (["3.png", "more/1.png", "more/deep/2.png"], None)


@pytest.mark.parametrize("target", ["train/dog", "train/dog/b", "train", ".", "train/cat"])
def test_links_back_are_passed_over_with_a_word(tmp_path, target):
    touch(tmp_path / "train/dog/b/1.png", tmp_path / "train/cat/2.png")
    link = tmp_path / "train/dog/a"
    link.symlink_to(tmp_path / target)
    assert found(tmp_path / "train/dog", within=tmp_path / "train") == (
        ["b/1.png"],
        f"left out of train: 1 folder that links reach once more ({link})",
    )


def test_links_in_a_circle_elsewhere_end(tmp_path):
    touch(tmp_path / "store/a/1.png", tmp_path / "store/b/2.png", tmp_path / "dog/0.png")
    (tmp_path / "store/a/to_b").symlink_to(tmp_path / "store/b")
    (tmp_path / "store/b/to_a").symlink_to(tmp_path / "store/a")
    (tmp_path / "store/b/up").symlink_to(tmp_path / "store")
    (tmp_path / "dog/more").symlink_to(tmp_path / "store")
    (tmp_path / "dog/once_more").symlink_to(tmp_path / "store/b")
    names, told = found(tmp_path / "dog")
    assert sorted(Path(name).name for name in names) == ["0.png", "1.png", "2.png"]
    assert told.startswith("left out of train: 4 folders that links reach once more")


def test_broken_links_are_left_out_and_links_to_images_are_images(tmp_path):
    touch(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    for name, target in (("c.png", "gone.png"), ("d", "gone"), ("e.png", "e.png")):
        (tmp_path / name).symlink_to(tmp_path / target)
    assert found(tmp_path) == (
        ["a.png", "b.png"],
        f"left out of train: 3 broken links (the first: {tmp_path}/c.png)",
    )
