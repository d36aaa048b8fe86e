import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from alignctl.commands.found_data import found_data
from alignctl.errors import ConfigError


@pytest.fixture
def found(make_study):
    """A function of a dataset: what a plan says of it."""
    training = {
        "epochs": 1, "batch_size": 16, "optimizer": {"name": "sgd", "learning_rate": 0.1},
    }  # fmt: skip
    return lambda **dataset: found_data(make_study(dataset=dataset, training=training))


def test_images_of_both_splits_and_their_classes_are_counted(found, photo_folder):
    assert found(name="digits") == {
        "data": {
            "train": "1,437 images",
            "test": "360 images",
            "classes": "10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        }
    }
    folder = {"name": "image_folder", "path": photo_folder, "image_size": 16}
    chosen = found(**folder, classes=2, images_per_class=9, in_memory=False)["data"]
    assert chosen == {"train": "18 images", "test": "8 images", "classes": "2: ant, bee"}


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"name": "image_folder", "path": "/gone"}, "there is no folder '/gone'; pass dataset.pat"),
        ({"name": "parquet", "path": "/gone"}, "there is no folder '/gone'; pass dataset.path=DIR"),
        ({"name": "huggingface", "path": "/gone"}, "there is no folder '/gone'; pass dataset.path"),
        ({"name": "cifar10", "path": "/gone"}, "no complete cifar10 .* in '/gone'; pass dataset.d"),
        ({"name": "cifar100", "path": "/gone"}, "no complete cifar100 "),
        ({"name": "fashion_mnist", "path": "/gone"}, "no complete fashion_mnist "),
        ({"name": "svhn", "path": "/gone"}, r"no complete svhn \(train_32x32.mat\)"),
        ({"name": "digits", "classes": 11}, "dataset.classes: 11 is more than the 10 there are"),
        ({"name": "digits", "images_per_class": 900}, "dataset.images_per_class: 900 is more than"),
        (
            {"name": "digits", "classes": 3, "images_per_class": 5},
            "training.batch_size: 16 images, but the train split has only 15",
        ),
    ],
    ids=str,
)
def test_what_training_would_refuse_is_refused(found, dataset, message):
    with pytest.raises(ConfigError, match=message):
        found(**dataset)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ({"name": "cifar10", "path": "/gone", "download": True}, "cifar10 in /gone, fetched where"),
        ({"name": "svhn", "path": "/gone", "download": True}, "svhn in /gone, fetched where it is"),
        (
            {"name": "tiny_imagenet", "download": True},
            "zh-plus/tiny-imagenet, fetched from the Hugging Face hub where it is not in the cache",
        ),
        ({"name": "huggingface", "path": "me/mine"}, "me/mine, looked for in the cache of the Hug"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_to_be_fetched_first_is_named(found, dataset, words):
    assert found(**dataset)["data"].startswith(words)


def test_files_that_lie_there_are_left_to_the_training(found, tmp_path):
    (tmp_path / "cifar-100-python").mkdir()
    assert found(name="cifar100", path=tmp_path)["data"] == (
        f"cifar100 in {tmp_path}, read when training starts"
    )


def test_a_plan_with_data_imports_no_torch(photo_folder):
    program = (
        "import sys\n"
        "from alignctl.commands.found_data import found_data\n"
        "from alignctl.config.load import load_study\n"
        f"folder = '{{name: image_folder, path: {photo_folder}, image_size: 16}}'\n"
        "for dataset in (folder, '{name: digits}', '{name: cifar10, download: true}'):\n"
        "    change = ['training.batch_size=16', f'dataset={dataset}']\n"
        "    found_data(load_study('digits', change))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_notices_of_both_splits_are_told(found, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = pa.array([b"no image is decoded"] * 40, pa.binary())
    labels = [0, 1] * 19 + [-1, None]
    for split in ("train", "test"):
        pq.write_table(
            pa.table({"image": images, "label": labels}), tmp_path / f"{split}-0.parquet"
        )
    assert found(name="parquet", path=tmp_path)["notices"] == [
        f"{tmp_path}, {split} split: 2 of 40 images have no label and are left out"
        for split in ("train", "test")
    ]
    (tmp_path / "test-0.parquet").unlink()
    assert found(name="parquet", path=tmp_path)["data"]["test"].startswith(
        f"none; evaluation will be on train only: dataset.path: '{tmp_path}' has no test-*.parquet"
    )


def test_dry_runs_say_what_was_found(call, short):
    for words in (["pretrain"], ["sweep", "temperature"]):
        plan = call(*words, *short, "--dry-run")
        assert plan.code == 0
        assert yaml.safe_load(plan.stdout)["data"] == {
            "train": "64 images", "test": "143 images", "classes": "4: 0, 1, 2, 3",
        }  # fmt: skip
        refused = call(*words, *short, "dataset.images_per_class=3", "--dry-run")
        assert refused.code == 2
        assert "training.batch_size: 16 images, but the train split has only 12" in refused.stderr
    assert not Path("runs").exists()
