"""A file that somebody else wrote cannot make a command write outside its run directory."""

import json
from pathlib import Path

import pytest

from alignctl.runs import RunDirectory


def files_outside(run):
    return {
        path: path.read_bytes()
        for path in Path().rglob("*")
        if path.is_file() and not path.is_relative_to(run)
    }


@pytest.fixture
def trained(call, short):
    assert call("pretrain", *short).code == 0
    return RunDirectory(Path("runs/digits"))


@pytest.mark.parametrize("name", ["../out", "a/b", "/tmp/out", "..", ".hidden", "a\nb"])
def test_a_study_cannot_be_named_after_another_place(call, short, name):
    ended = call("pretrain", *short, f"name={json.dumps(name)}")
    assert ended.code == 2
    assert "name: " in ended.stderr
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "command", [["eval-alignment"], ["weight-gap"], ["report", "to", "markdown"], ["verify"]]
)
@pytest.mark.parametrize("place", ["../../outside", "/proc/self/outside"])
def test_names_in_a_manifest_lead_nowhere(call, trained, command, place):
    values = json.loads(trained.manifest_file.read_text())
    values["name"] = place
    values["initial_weights"] = {place: "ab", **values["initial_weights"]}
    values["checkpoints"]["1"][place] = "ab"
    trained.manifest_file.write_text(json.dumps(values))
    before = files_outside(trained.path)
    ended = call(*command, "digits")
    assert ended.code in (0, 1)
    assert "Traceback" not in ended.stderr
    assert files_outside(trained.path) == before


@pytest.mark.parametrize(
    "change",
    [
        "objectives: [../../outside, cl]",
        "objectives: [cl, {name: ../nscl}]",
        "name: ../../outside",
        "checkpoint_epochs: [../1]",
    ],
)
@pytest.mark.parametrize(
    "command", [["eval-alignment"], ["weight-gap"], ["report", "to", "markdown"]]
)
def test_names_in_a_config_lead_nowhere(call, trained, command, change):
    key = change.partition(":")[0]
    lines, inside = [], False
    for line in trained.config_file.read_text().splitlines():
        inside = line.startswith(f"{key}:") or (inside and line.startswith((" ", "-")))
        if not inside:
            lines.append(line)
    trained.config_file.write_text("\n".join([*lines, change]))
    before = files_outside(trained.path)
    ended = call(*command, "digits")
    assert ended.code == 2
    assert ended.stderr.startswith("error: ")
    assert files_outside(trained.path) == before


def test_a_representation_is_a_layer_and_no_path(call, trained):
    before = files_outside(trained.path)
    ended = call("eval-alignment", "--representation", "../../h", "--keep-features")
    assert ended.code == 2
    assert "'../../h' is no layer" in ended.stderr
    assert files_outside(trained.path) == before
