import json
import subprocess
import sys

import jsonschema
import pytest
from pydantic import ValidationError

from alignctl.config import StudyConfig
from alignctl.config.load import find_config, parse_yaml, study_names
from alignctl.objectives import OBJECTIVES

TRAINING = {"batch_size": 64, "optimizer": {"name": "sgd", "learning_rate": 0.1}}


def refusal(make_study, **changes) -> str:
    with pytest.raises(ValidationError) as error:
        make_study(**changes)
    return str(error.value)


def test_objectives_may_be_names_or_mappings(make_study):
    mixed = make_study(objectives=["cl", {"name": "nscl", "positive_in_denominator": False}, "ce"])
    assert mixed.objective_names == ("cl", "nscl", "ce")
    assert mixed.objectives[1].positive_in_denominator is False
    assert make_study(objectives=["nscl"]) == make_study(objectives=[{"name": "nscl"}])


def test_an_objective_is_trained_once_and_at_least_one_is(make_study):
    assert "'nscl' is listed twice" in refusal(make_study, objectives=["nscl", "cl", "nscl"])
    assert "needs at least one objective" in refusal(make_study, objectives=[])


def test_every_objective_of_the_config_can_be_built():
    names = StudyConfig.model_json_schema()["properties"]["objectives"]["items"]["anyOf"][0]
    assert set(names["enum"]) == set(OBJECTIVES)


def test_cl_and_dcl_alone_never_see_labels(make_study):
    study = make_study(objectives=["cl", "dcl", "nscl", "scl", "ce"])
    blind = [objective.name for objective in study.objectives if not objective.uses_labels]
    assert blind == ["cl", "dcl"]


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (1, [0, 1]),
        (10, [0, 10]),
        (25, [0, 10, 20, 25]),
        (99, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99]),
        (100, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]),
        (301, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 200, 300, 301]),
    ],
)
def test_epochs_are_saved_every_10_below_100_then_every_100_and_at_the_end(
    make_study, epochs, expected
):
    assert make_study(training={**TRAINING, "epochs": epochs}).saved_epochs == tuple(expected)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [((5, 0, 2), (0, 2, 5, 10)), ((), (10,)), ((10, 11, 999), (10,)), ((3, 3), (3, 10))],
)
def test_chosen_epochs_are_sorted_and_end_with_the_last_one(make_study, chosen, expected):
    assert make_study(checkpoint_epochs=chosen).saved_epochs == expected


@pytest.mark.parametrize("temperature", [0, -0.1])
def test_the_temperature_is_above_zero(make_study, temperature):
    assert "greater than 0" in refusal(make_study, temperature=temperature)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "-v", "two words"])
def test_a_name_is_a_plain_folder_name(make_study, name):
    assert "name" in refusal(make_study, name=name)


@pytest.mark.parametrize("key", ["crop_scale", "crop_ratio"])
def test_the_smallest_crop_is_at_most_the_largest(make_study, key):
    message = refusal(make_study, augmentation={key: [0.9, 0.5]})
    assert f"augmentation.{key}" in message
    assert "the smallest, 0.9, is above the largest, 0.5" in message
    same = make_study(augmentation={key: [0.5, 0.5]}).augmentation
    assert getattr(same, key) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("crop_scale", [0.01, 1], [0, 1]),
        ("crop_scale", [0.5, 1], [0.5, 1.1]),
        ("crop_ratio", [0.1, 9], [0, 9]),
        ("flip_probability", 1, 1.1),
        ("hue", 0.5, 0.6),
        ("brightness", 0, -0.1),
        ("std", [0.1, 0.2, 0.1], [0.1, 0, 0.1]),
    ],
)
def test_augmentations_outside_their_range_are_refused(make_study, key, inside, outside):
    make_study(augmentation={key: inside})
    assert f"augmentation.{key}" in refusal(make_study, augmentation={key: outside})


def test_a_study_cannot_be_changed(make_study):
    study = make_study()
    with pytest.raises(ValidationError, match="frozen"):
        study.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        study.training.epochs = 3


@pytest.fixture(scope="module")
def schema_check():
    schema = json.loads(json.dumps(StudyConfig.model_json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", study_names())
def test_the_json_schema_accepts_every_ready_made_study(schema_check, name):
    schema_check.validate(parse_yaml(find_config(name).read_text(encoding="utf-8"), name))


@pytest.mark.parametrize(
    "change",
    [
        {"temprature": 1},
        {"temperature": 0},
        {"temperature": True},
        {"objectives": ["cl", "nsc"]},
        {"objectives": [{"name": "nscl", "positive": False}]},
        {"dataset": {"name": "cifar"}},
        {"training": {"epochs": 3}},
    ],
)
def test_the_json_schema_refuses_what_alignctl_refuses(schema_check, values, change):
    schema_check.validate(values)
    with pytest.raises(jsonschema.ValidationError):
        schema_check.validate({**values, **change})


def test_the_json_schema_accepts_objectives_as_names_and_as_mappings(schema_check, values):
    objectives = ["cl", {"name": "nscl", "positive_in_denominator": False}, {"name": "ce"}]
    schema_check.validate({**values, "objectives": objectives})


def test_configs_import_no_torch():
    code = "import sys, alignctl.config.load; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
