from typing import Any

import pytest

from alignctl.config import StudyConfig
from alignctl.config.load import validate_study
from alignctl.config.training_config import AdamWConfig, LarsConfig, SgdConfig
from alignctl.config.validation import models_at, names_of, nearest, unknown
from alignctl.errors import ConfigError


def message_for(values: dict[str, Any], path: str, value: Any) -> str:
    """What is said about the study with this value at this dotted path."""
    *parents, last = path.split(".")
    target = values
    for key in parents:
        target[key] = dict(target.get(key, {}))
        target = target[key]
    target[last] = value
    with pytest.raises(ConfigError) as error:
        validate_study(values, "study.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("temprature", 1, "temprature: unknown key; did you mean 'temperature'? (allowed: "),
        ("training.epoch", 3, "training.epoch: unknown key; did you mean 'epochs'? (allowed: "),
        ("zzz", 1, "zzz: unknown key (allowed: augmentation, checkpoint_epochs, dataset, "),
        (
            "training.optimizer",
            {"name": "sgd", "learning_rate": 1, "momentun": 0.5},
            "training.optimizer.momentun: unknown key; did you mean 'momentum'? "
            "(allowed: learning_rate, momentum, name, weight_decay)",
        ),
        (
            "objectives",
            ["cl", {"name": "nscl", "positive": False}],
            "objectives[1].positive: unknown key (allowed: name, positive_in_denominator)",
        ),
    ],
)
def test_unknown_key_names_the_nearest_one(values, path, value, expected):
    message = message_for(values, path, value)
    assert message.startswith(f"study.yaml: {expected}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("dataset.name", "cifar", "dataset: 'cifar' is not allowed; did you mean 'cifar10'? ("),
        ("encoder.name", "resnet", "encoder: 'resnet' is not allowed; did you mean 'resnet"),
        ("objectives", ["cl", "nsc"], "objectives[1]: 'nsc' is not allowed; did you mean 'nscl'?"),
        ("training.precision", "bf16", "training.precision: 'bf16' is not allowed"),
        ("training.optimizer.name", "adam", "training.optimizer: 'adam' is not allowed; did you"),
    ],
)
def test_unknown_choice_names_the_nearest_one(values, path, value, expected):
    assert message_for(values, path, value).startswith(f"study.yaml: {expected}")


@pytest.mark.parametrize("objective", ["cl", "dcl", "nscl", "scl", "ce"])
def test_an_unknown_objective_lists_every_objective(values, objective):
    listed = message_for(values, "objectives", ["zzz"]).rpartition("(")[2].rstrip(")").split(", ")
    assert objective in listed


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("training.epochs", "many", "training.epochs: must be a whole number, got 'many'"),
        ("training.epochs", 1.5, "training.epochs: must be a whole number, got 1.5"),
        ("temperature", "warm", "temperature: must be a number, got 'warm'"),
        ("temperature", [1], "temperature: must be a number, got [1]"),
        ("training.channels_last", 3, "training.channels_last: must be true or false, got 3"),
        ("name", 3, "name: must be text, got 3"),
        ("training", 3, "training: must be a mapping of keys, got 3"),
        ("dataset", "digits", "dataset: must be a mapping with the key 'name', got 'digits'"),
        ("dataset", {"path": "x"}, "dataset: must be a mapping with the key 'name', got {'path'"),
        ("objectives", "cl", "objectives: must be a list, got 'cl'"),
        ("objectives", [3], "objectives[0]: must be a mapping with the key 'name', got 3"),
        ("augmentation.mean", [0, 0], "augmentation.mean[2]: is missing"),
        (
            "dataset.classes",
            "few",
            "dataset.classes: must be a whole number, got 'few' or must be a list, got 'few'",
        ),
        (
            "dataset.classes",
            [0, 1.5],
            "dataset.classes[1]: must be a whole number, got 1.5 or must be text, got 1.5",
        ),
    ],
)
def test_wrong_type_says_what_is_allowed_and_what_was_given(values, path, value, expected):
    message = message_for(values, path, value)
    assert message.startswith(f"study.yaml: {expected}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("training.epochs", "training.epochs: must be a whole number, got true"),
        ("seed", "seed: must be a whole number, got true"),
        ("temperature", "temperature: must be a number, got true"),
        ("training.clip_norm", "training.clip_norm: must be a number, got true"),
        ("dataset.images_per_class", "dataset.images_per_class: must be a whole number, got true"),
        ("training.precision", "training.precision: 'true' is not allowed"),
        ("name", "name: must be text, got true"),
        ("encoder", "encoder: must be a mapping with the key 'name', got true"),
    ],
)
def test_a_boolean_is_neither_a_number_nor_a_word(values, path, expected):
    assert message_for(values, path, True).startswith(f"study.yaml: {expected}")


def test_a_boolean_in_a_list_of_numbers_is_named_by_its_place(values):
    message = message_for(values, "augmentation.crop_scale", [0.1, True])
    assert message == "study.yaml: augmentation.crop_scale[1]: must be a number, got true"
    values.pop("augmentation")
    message = message_for(values, "checkpoint_epochs", [False, 1])
    assert message == "study.yaml: checkpoint_epochs[0]: must be a whole number, got false"


def test_a_boolean_is_welcome_where_one_is_expected(values):
    objective = {"name": "nscl", "positive_in_denominator": False}
    training = {**values["training"], "channels_last": False}
    study = validate_study({**values, "objectives": [objective], "training": training}, "here")
    assert study.objectives[0].positive_in_denominator is False
    assert study.training.channels_last is False


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_numbers_are_finite(values, number):
    assert "temperature: input should be" in message_for(values, "temperature", number)


@pytest.mark.parametrize("key", ["name", "dataset", "encoder", "objectives", "temperature"])
def test_a_missing_key_is_named(values, key):
    del values[key]
    with pytest.raises(ConfigError) as error:
        validate_study(values, "study.yaml")
    assert str(error.value) == f"study.yaml: {key}: is missing"


def test_several_wrong_keys_are_a_line_each(values):
    with pytest.raises(ConfigError) as error:
        validate_study({**values, "temperature": 0, "seed": -1, "x": 1}, "study.yaml")
    lines = str(error.value).splitlines()
    assert [line.removeprefix("study.yaml: ").partition(":")[0] for line in lines] == [
        "temperature",
        "seed",
        "x",
    ]


def test_models_are_found_through_unions_and_tuples():
    assert set(models_at(StudyConfig, ["training", "optimizer"])) == {
        LarsConfig,
        SgdConfig,
        AdamWConfig,
    }
    names = [name for model in models_at(StudyConfig, ["objectives"]) for name in names_of(model)]
    assert names == ["cl", "dcl", "nscl", "scl", "ce"]
    assert models_at(StudyConfig, ["temperature"]) == []
    assert models_at(StudyConfig, ["nowhere", "at", "all"]) == []
    assert names_of(StudyConfig) == ()  # a free name chooses nothing


def test_nearest_is_silent_where_nothing_is_near():
    assert nearest("epoch", ["epochs", "seed"]) == "; did you mean 'epochs'?"
    assert nearest("zzz", ["epochs", "seed"]) == ""


def test_unknown_lists_what_is_allowed_in_order():
    text = unknown("an objective", "nsc", ["scl", "nscl", "ce"])
    assert text == "'nsc' is not an objective; did you mean 'nscl'? (ce, nscl, scl)"
    assert unknown("a split", "zzz", ["train", "test"]).endswith("(test, train)")
