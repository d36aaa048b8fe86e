import json

import pytest

from alignctl.errors import CheckpointError
from alignctl.runs.directory import sweep_file
from alignctl.runs.sweep_folder import SweepDescription, SweepDirectory, value_of


@pytest.fixture
def sweep(tmp_path, make_study):
    """A sweep over temperatures 0.1 and 1.0 of the smallest study."""
    directory = SweepDirectory(tmp_path / "sweep")
    study = make_study(temperature=0.1)
    directory.describe(SweepDescription("temperature", "temperature", (0.1, 1.0), study))
    return directory


def test_a_sweep_comes_back_as_it_was_described(sweep, make_study):
    assert sweep.exists
    assert sweep.description() == SweepDescription(
        "temperature", "temperature", (0.1, 1.0), make_study(temperature=0.1)
    )
    assert [path.name for path in sweep.path.iterdir()] == ["sweep.json"]


def test_a_folder_without_a_description_is_no_sweep(tmp_path):
    assert not SweepDirectory(tmp_path).exists


def test_each_value_has_its_own_run(sweep):
    names = [sweep.run("temperature", value).name for value in (0.1, 1.0, 1e-05)]
    assert names == ["temperature=0.1", "temperature=1.0", "temperature=1e-05"]
    assert sweep.run("temperature", 0.1).path.parent == sweep.path


@pytest.mark.parametrize("temperature", [0.1, 1.0, 7.0, 1e-05])
def test_studies_that_differ_in_the_swept_key_alone_are_the_same_sweep(
    sweep, make_study, temperature
):
    assert sweep.difference(make_study(temperature=temperature), "temperature") is None


def test_another_difference_is_named(sweep, make_study):
    other = make_study(temperature=7.0, seed=3)
    assert sweep.difference(other, "temperature") == "seed is 3 here and 0 there"


def test_a_sweep_of_another_key_is_different(sweep, make_study):
    assert sweep.difference(make_study(temperature=0.1), "seed") == "it sweeps temperature"


def test_a_nested_key_can_be_swept(tmp_path, make_study):
    key = "training.optimizer.learning_rate"
    study = make_study()
    assert value_of(study, key) == 0.1
    sweep = SweepDirectory(tmp_path)
    sweep.describe(SweepDescription("learning_rate", key, (0.1, 0.3), study))
    training = study.training.model_dump()
    training["optimizer"]["learning_rate"] = 0.3
    assert sweep.difference(make_study(training=training), key) is None
    training["epochs"] = 3
    assert sweep.difference(make_study(training=training), key) == (
        "training.epochs is 3 here and 10 there"
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: "{",
        lambda values: "[]",
        lambda values: json.dumps({**values, "values": 3}),
        lambda values: json.dumps({**values, "values": ["/../../elsewhere"]}),
        lambda values: json.dumps({**values, "values": [True]}),
        lambda values: json.dumps({**values, "parameter": "../../elsewhere"}),
        lambda values: json.dumps({k: v for k, v in values.items() if k != "study"}),
    ],
)
def test_a_damaged_description_is_one_line_that_names_the_file(sweep, damage):
    path = sweep_file(sweep.path)
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(CheckpointError) as error:
        sweep.description()
    assert str(error.value).startswith(f"{path}: cannot be read: ")
    assert "\n" not in str(error.value)


def test_a_sweep_of_another_schema_version_is_refused(sweep):
    path = sweep_file(sweep.path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(CheckpointError, match="schema version 99, not 1"):
        sweep.description()
