import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from alignctl.config.dataset_configs import DatasetConfig, DatasetSelection, StreamableConfig
from alignctl.datasets import DATASETS, load_images
from alignctl.datasets.conversion import Loss, Losses
from alignctl.datasets.in_memory import ImagesInMemory
from alignctl.datasets.source import (
    Source,
    select_encoded,
    select_images,
)
from alignctl.datasets.streamed import StreamedImages
from alignctl.errors import ConfigError

LABELS = np.array([2, 0, 1, 1, 0, 2, 0, -1, 1, 0])
NAMES = "cat", "dog", "emu"


def select(
    split: str = "train", labels: np.ndarray = LABELS, **selection: object
) -> ImagesInMemory:
    """Images whose every pixel is their id."""
    source = Source(
        labels=labels,
        class_names=NAMES,
        read=lambda ids: np.broadcast_to(
            ids.astype(np.uint8)[:, None, None, None], (len(ids), 2, 2, 3)
        ),
    )
    return select_images(source, DatasetSelection(**selection), split)


def select_streamed(**selection: object) -> StreamedImages:
    """Images of one pixel, whose bytes are known; the config says 16, 20 and three workers."""
    file = BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    source = Source(
        labels=LABELS,
        class_names=NAMES,
        read=lambda ids: pytest.fail("nothing is to be decoded"),
        encoded=lambda ids: ((f"image {index}", file.getvalue()) for index in ids),
        marks=lambda ids: bytes(ids.tolist()),
    )
    config = StreamableConfig(in_memory=False, image_size=16, resize=20, workers=3, **selection)
    return select_encoded(source, config, "train")


@pytest.mark.parametrize(
    "selection", [{}, {"classes": ("emu", 1)}, {"images_per_class": 2}, {"classes": 2}], ids=str
)
def test_the_same_images_are_chosen_whether_they_are_in_memory_or_not(selection):
    chosen, expected = select_streamed(**selection), select(**selection)
    assert chosen.ids.tolist() == expected.ids.tolist()
    assert chosen.labels.tolist() == expected.labels.tolist()
    assert chosen.class_names == expected.class_names
    assert chosen.marks == bytes(expected.ids.tolist())
    assert (chosen.image_size, chosen.resize, chosen.workers) == (16, 20, 3)
    assert (chosen.image_shape, expected.image_shape) == ((16, 16), (2, 2))
    assert [name for name, _ in chosen.encoded(chosen.ids[::-1])] == [
        f"image {index}" for index in expected.ids[::-1]
    ]


def test_a_choice_that_cannot_be_met_is_refused_where_images_are_not_in_memory():
    with pytest.raises(ConfigError, match="3 is more than the 2 training images of 'emu'"):
        select_streamed(images_per_class=3)


def test_without_a_choice_every_labelled_image_is_used():
    chosen = select()
    assert chosen.ids.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert chosen.labels.tolist() == [2, 0, 1, 1, 0, 2, 0, 1, 0]
    assert chosen.class_names == NAMES
    assert chosen.images[:, 0, 0, 0].tolist() == chosen.ids.tolist()
    assert chosen.ids.dtype == chosen.labels.dtype == np.int64
    assert chosen.images.flags.c_contiguous


@pytest.mark.parametrize(
    ("classes", "names", "ids", "labels"),
    [
        (2, ("cat", "dog"), [1, 2, 3, 4, 6, 8, 9], [0, 1, 1, 0, 0, 1, 0]),
        ((2, 0), ("emu", "cat"), [0, 1, 4, 5, 6, 9], [0, 1, 1, 0, 1, 1]),
        (("emu", 1), ("emu", "dog"), [0, 2, 3, 5, 8], [0, 1, 1, 0, 1]),
    ],
)
def test_chosen_classes_keep_ids_and_get_new_labels(classes, names, ids, labels):
    chosen = select(classes=classes)
    assert chosen.class_names == names
    assert chosen.ids.tolist() == ids
    assert chosen.labels.tolist() == labels


def test_images_per_class_takes_the_first_of_each_class_by_id():
    assert select(images_per_class=2).ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert select(images_per_class=1, classes=("emu", "dog")).ids.tolist() == [0, 2]


def test_the_test_split_stays_whole():
    assert select("test", images_per_class=1).ids.tolist() == select().ids.tolist()
    assert select("test", images_per_class=1000, classes=2).ids.size == 7


def test_a_class_may_be_missing_in_the_test_split():
    assert select("test", labels=np.array([0, 0, 1])).class_names == NAMES


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"classes": 4}, "dataset.classes: 4 is more than the 3 there are"),
        ({"classes": ()}, "dataset.classes: no class is chosen$"),
        ({"classes": (0, 3)}, r"dataset.classes: 3 is not a class \(0 to 2\)"),
        ({"classes": (0, -1)}, "dataset.classes: -1 is not a class"),
        (
            {"classes": ("cat", "dgo")},
            r"dataset.classes: 'dgo' is not a class; did you mean 'dog'\? \(cat, dog, emu\)",
        ),
        ({"classes": ("cat", "xyz")}, r"'xyz' is not a class \(cat, dog, emu\)"),
        ({"classes": ("dog", "cat", 1)}, "dataset.classes: 'dog' is listed twice"),
        (
            {"images_per_class": 3},
            "dataset.images_per_class: 3 is more than the 2 training images of 'emu'",
        ),
    ],
)
def test_a_choice_that_cannot_be_met_names_its_key(selection, message):
    with pytest.raises(ConfigError, match=f"^{message}" if message[0] == "d" else message) as error:
        select(**selection)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("classes", [1, ("cat",)])
def test_one_class_is_enough_here(classes):
    chosen = select(classes=classes)
    assert (chosen.class_names, chosen.ids.tolist()) == (("cat",), [1, 4, 6, 9])


def test_what_images_lose_is_told_with_the_split_after_what_the_source_says():
    def read(ids):
        losses.add("a", {Loss.CMYK})
        return np.zeros((len(ids), 1, 1, 3), np.uint8)

    losses = Losses()
    source = Source(LABELS, NAMES, read, notices=("first",), losses=losses)
    assert select_images(source, DatasetSelection(), "test").notices == (
        "first",
        "among the 9 test images: 1 in CMYK, converted without a colour profile (a)",
    )


def grey_files(num_images, num_wide):
    """A source of so many grey images of 8 bits, evenly spread among them some of 16 bits."""
    files = [BytesIO(), BytesIO()]
    for file, dtype in zip(files, (np.uint8, np.uint16), strict=True):
        Image.fromarray(np.zeros((2, 2), dtype)).save(file, "PNG")
    every = num_images // num_wide
    return Source(
        labels=np.zeros(num_images, np.int64),
        class_names=("grey",),
        read=lambda ids: pytest.fail("nothing is to be decoded"),
        encoded=lambda ids: ((f"{i:04}", files[int(i % every == 0)].getvalue()) for i in ids),
        marks=lambda ids: b"",
        notices=("first",),
    )


@pytest.mark.parametrize(
    ("num_images", "images"),
    [
        (10, "the 10 train images"),
        (512, "the 512 train images"),
        (600, "300 of the 600 train images whose headers were looked at"),
    ],
)
def test_what_streamed_images_will_lose_is_told_before_they_are_decoded(num_images, images):
    config = StreamableConfig(in_memory=False, image_size=2)
    chosen = select_encoded(grey_files(num_images, 2), config, "train")
    lost = "2 with more than 8 bits per channel, scaled to 8 (0000)"
    assert chosen.notices == ("first", f"among {images}: {lost}")


def test_a_training_class_without_images_is_refused():
    with pytest.raises(ConfigError, match=r"^dataset.classes: 'dog' has no training images"):
        select(labels=np.array([0, 2, 2]))


def test_an_empty_test_selection_is_refused():
    with pytest.raises(ConfigError, match=r"^dataset.classes: the test split has no image"):
        select("test", labels=np.array([2, -1]), classes=2)


def test_long_lists_of_classes_are_cut_short():
    names = tuple(f"class{index}" for index in range(100))
    source = Source(labels=np.arange(100), class_names=names, read=lambda ids: ids)
    with pytest.raises(ConfigError, match=r"class19, \.\.\.: 100 in all\)$"):
        select_images(source, DatasetSelection(classes=("class", 1)), "train")


def test_every_dataset_of_the_config_has_a_source():
    names = set()
    for member in TypeAdapter(DatasetConfig).json_schema()["$defs"].values():
        name = member["properties"]["name"]
        names |= set(name.get("enum", [name.get("const")]))
    assert set(DATASETS) == names


def test_loading_digits_imports_no_torch():
    code = (
        "import sys\n"
        "from alignctl.config.dataset_configs import DigitsConfig\n"
        "from alignctl.datasets import load_images\n"
        "load_images(DigitsConfig(), 'train')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_load_images_goes_by_the_name_of_the_dataset():
    config = TypeAdapter(DatasetConfig).validate_python({"name": "digits", "classes": [3, "7"]})
    chosen = load_images(config, "test")
    assert chosen.class_names == ("3", "7")
    assert set(chosen.labels.tolist()) == {0, 1}
