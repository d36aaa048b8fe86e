import re
import shutil

import numpy as np
import pytest
from PIL import Image

from alignctl.config.dataset_configs import ImageFolderConfig
from alignctl.config.load import parse_yaml
from alignctl.datasets import load_images
from alignctl.datasets.numbered_classes import refuse_ambiguous_numbers
from alignctl.errors import ConfigError

ONE_TO_11 = tuple(sorted(map(str, range(1, 12))))
PADDED = ("000", "001", "002")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ((3, 9, 0), tuple(map(str, range(10)))),
        ((2, 1), ("cat", "dog", "emu")),
        ((2, 1), PADDED),
        (("1", "2", "10"), ONE_TO_11),
        (("2", 1), PADDED),
        ((12,), tuple(map(str, range(10)))),
        ((-1,), ONE_TO_11),
        ((3,), ("Ⅲ", "²", "one", "two")),
        ((), ONE_TO_11),
    ],
    ids=str,
)
def test_a_number_that_means_one_class_both_ways_is_taken(wanted, names):
    refuse_ambiguous_numbers(wanted, names)


@pytest.mark.parametrize(
    ("wanted", "names", "reason"),
    [
        (
            (1, 2, 10), ONE_TO_11,
            "1 is '1' as a name and '10' as a position; write names as texts: "
            "dataset.classes=['1', '2', '10'] for names, or "
            "dataset.classes=['10', '11', '9'] for positions",
        ),
        (
            (0, 1), ONE_TO_11,
            "0 is no class as a name and '1' as a position; write names as texts: "
            "dataset.classes=['1', '10'] for positions",
        ),
        (
            (11, "3"), ONE_TO_11,
            "11 is '11' as a name and no class as a position; write names as texts: "
            "dataset.classes=['11', '3'] for names",
        ),
        (
            (1, 2), ("001", "002", "003"),
            "1 is '001' as a name and '002' as a position; write names as texts: "
            "dataset.classes=['001', '002'] for names, or "
            "dataset.classes=['002', '003'] for positions",
        ),
        (
            (1, 7), ("1", "cow", "dog"),
            "1 is '1' as a name and 'cow' as a position; write names as texts",
        ),
        (
            (1, 2), ("01", "1", "2"),
            "1 is '01' or '1' as a name and '1' as a position; write names as texts: "
            "dataset.classes=['1', '2'] for positions",
        ),
    ],
    ids=lambda value: value if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_number_that_means_two_classes_is_refused_with_both_in_words(wanted, names, reason):
    with pytest.raises(ConfigError) as error:
        refuse_ambiguous_numbers(wanted, names)
    assert str(error.value) == f"dataset.classes: classes are named by numbers here, and {reason}"


@pytest.fixture
def folder(tmp_path):
    """An image folder of the classes '1' to '11', whose pixels are their numbers."""
    for split in ("train", "test"):
        for number in range(1, 12):
            (tmp_path / split / str(number)).mkdir(parents=True)
            pixels = np.full((4, 4, 3), number, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / str(number) / "0.png")
    return tmp_path


def test_classes_of_a_folder_are_chosen_by_names_alone(folder):
    chosen = load_images(ImageFolderConfig(path=folder, classes=("1", "2", "10")), "train")
    assert chosen.class_names == ("1", "2", "10")
    values = dict(zip(chosen.labels.tolist(), chosen.images[:, 0, 0, 0].tolist(), strict=True))
    assert values == {0: 1, 1: 2, 2: 10}
    for split in ("train", "test"):
        with pytest.raises(ConfigError, match=re.escape("dataset.classes=['10', '11', '9'] for p")):
            load_images(ImageFolderConfig(path=folder, classes=(1, 2, 10)), split)
    for number in (1, 11):
        for split in ("train", "test"):
            shutil.rmtree(folder / split / str(number))
    with pytest.raises(ConfigError, match="2 is '2' as a name and '3' as a position"):
        load_images(ImageFolderConfig(path=folder, classes=(2,)), "train")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[001, 010]", ["001", "010"]), ("08", "08"), ("1:30", "1:30"), ("00", "00"),
        ("0", 0), ("-12", -12), ("1_000", 1000), ("0x1F", 31), ("0b11", 3), ("+5", 5),
        ("0.5", 0.5), ("1e3", 1000.0),
    ],
)  # fmt: skip
def test_a_name_with_a_leading_zero_is_no_octal_number(text, value):
    found = parse_yaml(text, "here")
    assert (found, type(found)) == (value, type(value))
