import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision.datasets

from alignctl.config.dataset_configs import TorchvisionConfig
from alignctl.datasets import load_images
from alignctl.errors import ConfigError, DataError

NUM_IMAGES = 20  # of each file
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(NUM_IMAGES) % 10
NAMES = [f"class {index}" for index in range(10)]


@pytest.fixture
def unchecked(monkeypatch):
    """Files are taken as they are: only the real ones have the right checksums."""
    exists = lambda path, md5=None: Path(path).is_file()  # noqa: E731
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", exists)


def write_cifar(root: Path, name: str) -> None:
    dataset = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}
    kind = dataset[name]
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    key = "labels" if name == "cifar10" else "fine_labels"
    rows = IMAGES.transpose(0, 3, 1, 2).reshape(NUM_IMAGES, -1)
    for file, _ in kind.train_list + kind.test_list:
        (folder / file).write_bytes(pickle.dumps({"data": rows, key: LABELS.tolist()}))
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: NAMES}))


def write_fashion_mnist(root: Path) -> None:
    folder = root / "FashionMNIST/raw"
    folder.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        gray = np.ascontiguousarray(IMAGES[:, :28, :28, 0])
        header = np.array([0x803, NUM_IMAGES, 28, 28], dtype=">i4").tobytes()
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + gray.tobytes())
        header = np.array([0x801, NUM_IMAGES], dtype=">i4").tobytes()
        labels = LABELS.astype(np.uint8).tobytes()
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels)


@pytest.mark.parametrize(("name", "num_train_files"), [("cifar10", 5), ("cifar100", 1)])
def test_cifar_is_read_from_its_files(tmp_path, unchecked, name, num_train_files):
    write_cifar(tmp_path, name)
    config = TorchvisionConfig(name=name, path=tmp_path)
    train, test = load_images(config, "train"), load_images(config, "test")
    assert np.array_equal(train.images, np.concatenate([IMAGES] * num_train_files))
    assert np.array_equal(test.images, IMAGES)
    assert np.array_equal(test.labels, LABELS)
    assert train.class_names == test.class_names == tuple(NAMES)


@pytest.mark.parametrize("split", ["train", "test"])
def test_fashion_mnist_is_read_from_its_files_as_grey(tmp_path, split):
    write_fashion_mnist(tmp_path)
    chosen = load_images(TorchvisionConfig(name="fashion_mnist", path=tmp_path), split)
    assert chosen.images.shape == (NUM_IMAGES, 28, 28, 3)
    for channel in range(3):
        assert np.array_equal(chosen.images[..., channel], IMAGES[:, :28, :28, 0])
    assert np.array_equal(chosen.labels, LABELS)
    assert chosen.class_names[0] == "T-shirt/top"


def test_a_choice_of_classes_and_images(tmp_path, unchecked):
    write_cifar(tmp_path, "cifar10")
    config = TorchvisionConfig(
        name="cifar10", path=tmp_path, classes=("class 3", 1), images_per_class=2
    )
    chosen = load_images(config, "train")
    assert chosen.ids.tolist() == [1, 3, 11, 13]
    assert chosen.labels.tolist() == [1, 0, 1, 0]
    assert np.array_equal(chosen.images, IMAGES[[1, 3, 11, 13]])


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist"])
def test_missing_files_say_how_to_get_them(tmp_path, name):
    with pytest.raises(ConfigError, match=rf"^dataset.path: no complete {name} .*") as error:
        load_images(TorchvisionConfig(name=name, path=tmp_path), "train")
    assert "dataset.download=true" in str(error.value)
    assert "dataset.path=DIR" in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failure", [URLError("no\nroute"), RuntimeError("no\nroute")])
def test_a_failed_download_is_one_line(tmp_path, monkeypatch, failure):
    def fail(*arguments, **options):
        raise failure

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    config = TorchvisionConfig(name="cifar10", path=tmp_path, download=True)
    with pytest.raises(
        DataError, match=r"^dataset.download: cifar10 cannot be fetched: .*"
    ) as error:
        load_images(config, "train")
    assert "\n" not in str(error.value)
    assert "route" in str(error.value)


def test_damaged_files_are_a_data_error(tmp_path):
    write_fashion_mnist(tmp_path)
    (tmp_path / "FashionMNIST/raw/train-images-idx3-ubyte").write_bytes(b"\0" * 8)
    with pytest.raises(DataError, match="fashion_mnist cannot be read"):
        load_images(TorchvisionConfig(name="fashion_mnist", path=tmp_path), "train")
