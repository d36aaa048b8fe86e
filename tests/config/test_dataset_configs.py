from pathlib import Path

import pytest

from alignctl.config.load import validate_study
from alignctl.errors import ConfigError

HUB = {"name": "huggingface", "path": "owner/name"}


@pytest.fixture
def dataset(values):
    """A function of a dataset's values: its config, as part of a whole study."""
    return lambda **keys: validate_study({**values, "dataset": keys}, "study").dataset


@pytest.mark.parametrize("name", ["tiny_imagenet", "mini_imagenet", "full_imagenet"])
def test_the_sets_of_the_paper_need_no_path(dataset, name):
    config = dataset(name=name)
    assert (config.path, config.revision, config.download) == (None, None, False)
    assert (config.train_split, config.test_split, config.in_memory) == ("train", None, True)


def test_a_folder_is_kept_from_the_root_and_a_name_on_the_hub_as_it_is(
    dataset, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "local").mkdir(parents=True)
    paths = {
        "owner/name": "owner/name",
        "owner/local": f"{tmp_path}/owner/local",
        "./missing": f"{tmp_path}/missing",
        "~/images": str(Path.home() / "images"),
        "/images": "/images",
    }
    for given, kept in paths.items():
        assert dataset(**{**HUB, "path": given}).path == kept


def test_svhn_trains_on_the_extra_images_unless_told_otherwise(dataset):
    assert dataset(name="svhn").extra is True
    assert dataset(name="svhn", extra=False).extra is False
    assert dataset(name="svhn", path="somewhere").path == Path("somewhere").absolute()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "huggingface"}, "dataset: path: needs a name on the hub, or a folder"),
        ({"name": "cifar10", "extra": True}, "dataset.extra: "),
        ({**HUB, "workers": -1}, "dataset.workers: "),
        ({**HUB, "download": "perhaps"}, "dataset.download: "),
        ({**HUB, "in_memory": False}, "dataset: in_memory: false needs an image_size"),
        ({**HUB, "resize": 64}, "dataset: resize 64 needs an image_size that is not above it"),
        (
            {**HUB, "resize": 64, "image_size": 65},
            "dataset: resize 64 needs an image_size that is not above it",
        ),
        ({"name": "parquet", "path": "x", "in_memory": False}, "dataset.in_memory: "),
        ({"name": "mini_imagnet"}, "did you mean 'mini_imagenet'"),
    ],
)
def test_what_a_dataset_cannot_be_is_one_line(dataset, keys, message):
    with pytest.raises(ConfigError) as error:
        dataset(**keys)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_resize_may_equal_the_image_size(dataset):
    assert dataset(**HUB, resize=64, image_size=64).resize == 64
