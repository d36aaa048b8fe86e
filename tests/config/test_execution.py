from pathlib import Path
from typing import get_args

import pytest

from alignctl.config.base import Execution
from alignctl.config.datasets import DatasetConfig
from alignctl.config.execution import execution_keys, placed_as
from alignctl.config.load import first_difference, moved, science_differences
from alignctl.errors import ConfigError

FOLDER = {"name": "image_folder", "path": "/a", "image_size": 16}
HUB = {"name": "huggingface", "path": "owner/name", "image_size": 16}
RESNET = {"name": "resnet18", "width": 0.25}


@pytest.mark.parametrize(
    ("dataset", "keys"),
    [
        ({"name": "digits"}, set()),
        (FOLDER, {"dataset.path", "dataset.workers"}),
        ({"name": "parquet", "path": "/a"}, {"dataset.path"}),
        (HUB, {"dataset.path", "dataset.workers", "dataset.download"}),
        ({"name": "cifar10"}, {"dataset.path", "dataset.download"}),
        ({"name": "svhn"}, {"dataset.path", "dataset.download"}),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_where_data_lie_and_who_reads_them_is_execution_and_nothing_else(make_study, dataset, keys):
    assert set(execution_keys(make_study(dataset=dataset))) == {"encoder.weights", *keys}


def test_every_path_of_a_dataset_is_execution():
    models = get_args(get_args(DatasetConfig)[0])
    fields = [model.model_fields["path"] for model in models if "path" in model.model_fields]
    assert len(fields) == 5
    assert all(any(isinstance(mark, Execution) for mark in field.metadata) for field in fields)


@pytest.mark.parametrize(
    "change",
    [{"path": "/b"}, {"workers": 3}, {"path": "there", "workers": 0}],
    ids=str,
)
def test_data_elsewhere_are_no_difference(make_study, change):
    ours, theirs = make_study(dataset=FOLDER), make_study(dataset={**FOLDER, **change})
    assert first_difference(ours, theirs) is None
    assert science_differences(ours, theirs) == {}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"in_memory": False}, "dataset.in_memory"),
        ({"classes": 3}, "dataset.classes"),
        ({"resize": 20}, "dataset.resize"),
    ],
)
def test_what_decides_the_pixels_is_a_difference(make_study, change, key):
    other = make_study(dataset={**FOLDER, "path": "/b", **change})
    assert first_difference(make_study(dataset=FOLDER), other).startswith(f"{key} is ")


def test_a_file_of_weights_may_move_but_not_come_or_go(make_study):
    study = [make_study(encoder={**RESNET, "weights": path}) for path in ("/a", "/b", None)]
    assert first_difference(study[0], study[1]) is None
    assert first_difference(study[0], study[2]) == "encoder.weights is /a here and None there"
    assert first_difference(study[2], study[1]) == "encoder.weights is None here and /b there"


def test_the_study_of_a_run_takes_overrides_of_execution(make_study):
    study = make_study(dataset=FOLDER, temperature=0.3)
    found = moved(study, ["dataset.path=/b", "temperature=0.3", "dataset.workers=2"], "run")
    assert (found.dataset.path, found.dataset.workers) == (Path("/b"), 2)
    assert first_difference(study, found) is None
    assert moved(study, [], "run") == study


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("temperature=0.1", "temperature is 0.1 here and 0.5 there"),
        ("dataset.in_memory=false", "dataset.in_memory is False here and True there"),
        ("dataset.name=parquet", "dataset.name is parquet here and image_folder there"),
        ("placement=data", "placement is data here and objectives there"),
    ],
)
def test_overrides_of_science_are_refused_with_what_may_change(make_study, override, reason):
    with pytest.raises(ConfigError) as error:
        moved(make_study(dataset=FOLDER), [override], "runs/a")
    assert str(error.value) == (
        f"{reason} (runs/a): it decides what is computed, so a run keeps it; only where data lie "
        "and how they are read may change (dataset.workers, dataset.path, encoder.weights)"
    )


def test_an_unknown_override_is_named_with_the_nearest_key(make_study):
    with pytest.raises(ConfigError, match=r"^runs/a: dataset.pth: unknown key; did you mean 'pat"):
        moved(make_study(dataset=FOLDER), ["dataset.pth=/b"], "runs/a")


def test_a_study_is_placed_as_another_and_keeps_all_else(make_study):
    study = make_study(dataset=FOLDER, encoder={**RESNET, "weights": "/w"}, seed=3)
    other = make_study(dataset={**FOLDER, "path": "/b", "workers": 1}, encoder=RESNET)
    found = placed_as(study, other)
    assert found.dataset == other.dataset
    assert (found.seed, found.encoder.weights) == (3, None)
