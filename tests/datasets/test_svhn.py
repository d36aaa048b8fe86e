from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io

from alignctl.config.dataset_configs import SvhnConfig
from alignctl.datasets import load_images
from alignctl.errors import ConfigError, DataError

NUM_IMAGES = {"train": 20, "test": 10, "extra": 30}
LABELS = {name: np.arange(count) % 10 for name, count in NUM_IMAGES.items()}
IMAGES = {
    name: np.random.default_rng(count).integers(256, size=(count, 32, 32, 3), dtype=np.uint8)
    for name, count in NUM_IMAGES.items()
}


@pytest.fixture
def unchecked(monkeypatch):
    """Files are taken as they are: only the real ones have the right checksums."""
    exists = lambda path, md5=None: Path(path).is_file()  # noqa: E731
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", exists)


@pytest.fixture
def root(tmp_path, unchecked):
    for name, labels in LABELS.items():
        digits = np.where(labels == 0, 10, labels)[:, None]  # the files call the digit 0 "10"
        content = {"X": IMAGES[name].transpose(1, 2, 3, 0), "y": digits}
        scipy.io.savemat(tmp_path / f"{name}_32x32.mat", content)
    return tmp_path


def test_training_takes_the_train_images_and_then_the_extra_ones(root):
    train = load_images(SvhnConfig(name="svhn", path=root), "train")
    assert np.array_equal(train.images, np.concatenate([IMAGES["train"], IMAGES["extra"]]))
    assert np.array_equal(train.labels, np.concatenate([LABELS["train"], LABELS["extra"]]))
    assert train.labels.dtype == np.int64
    assert train.ids.tolist() == list(range(50))
    assert train.class_names == tuple("0123456789")


@pytest.mark.parametrize(("split", "extra"), [("train", False), ("test", True), ("test", False)])
def test_without_the_extra_images_and_for_testing_a_split_is_its_own_file(root, split, extra):
    (root / "extra_32x32.mat").unlink()
    chosen = load_images(SvhnConfig(name="svhn", path=root, extra=extra), split)
    assert np.array_equal(chosen.images, IMAGES[split])
    assert np.array_equal(chosen.labels, LABELS[split])
    assert chosen.class_names == tuple("0123456789")


def test_a_choice_of_images_reaches_into_both_files(root, monkeypatch):
    monkeypatch.setattr("alignctl.datasets.svhn._IMAGES_AT_A_TIME", 3)
    config = SvhnConfig(name="svhn", path=root, classes=(3, 1), images_per_class=4)
    chosen = load_images(config, "train")
    assert chosen.ids.tolist() == [1, 3, 11, 13, 21, 23, 31, 33]
    both = np.concatenate([IMAGES["train"], IMAGES["extra"]])
    assert np.array_equal(chosen.images, both[chosen.ids])
    assert chosen.labels.tolist() == [1, 0] * 4


@pytest.mark.parametrize("name", ["train", "extra"])
def test_missing_files_say_how_to_get_them(root, name):
    (root / f"{name}_32x32.mat").unlink()
    with pytest.raises(ConfigError) as error:
        load_images(SvhnConfig(name="svhn", path=root), "train")
    without = ", or dataset.extra=false to train without it" if name == "extra" else ""
    assert str(error.value) == (
        f"dataset.path: no complete svhn ({name}_32x32.mat) in '{root}'; pass "
        f"dataset.download=true, or dataset.path=DIR for where it lies{without}"
    )
    assert not (root / f"{name}_32x32.mat").exists()


def test_files_with_other_contents_are_not_taken(tmp_path):
    (tmp_path / "test_32x32.mat").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="no complete svhn"):
        load_images(SvhnConfig(name="svhn", path=tmp_path), "test")


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise URLError("no\nroute")

    monkeypatch.setattr("torchvision.datasets.svhn.download_url", fail)
    with pytest.raises(DataError) as error:
        load_images(SvhnConfig(name="svhn", path=tmp_path, download=True), "train")
    beginning = r"dataset.download: svhn (train_32x32.mat) cannot be fetched: "
    assert str(error.value).startswith(beginning)
    assert "\n" not in str(error.value)
    assert "route" in str(error.value)
