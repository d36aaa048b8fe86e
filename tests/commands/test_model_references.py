import pytest

from alignctl.commands.model_references import find_model
from alignctl.errors import ConfigError
from alignctl.models.own_run import OwnRun
from alignctl.models.weight_file import WeightFile
from alignctl.runs.directory import checkpoint_file


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch, make_run):
    """./runs/tiny with weights of nscl after epoch 2, and snapshots of the original's dcl."""
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs/tiny")
    path = checkpoint_file(run, "nscl", 2)
    for file in (path, tmp_path / "theirs/dcl/snapshot_5.pth", tmp_path / "a.pth"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return run


def test_a_model_of_a_run_is_found_by_name_and_by_path(run):
    for text in ("tiny:nscl@2", f"{run.path}:nscl@2"):
        found = find_model(text)
        assert isinstance(found.source, OwnRun)
        assert found.file.samefile(checkpoint_file(run, "nscl", 2))
        assert str(found.ref) == text


def test_snapshots_of_a_folder_are_found_by_either_name(tmp_path):
    for name in ("dcl", "cl"):
        found = find_model(f"theirs:{name}@5")
        assert (found.objective, found.file) == ("cl", tmp_path / "theirs/dcl/snapshot_5.pth")


def test_a_file_is_a_model(tmp_path):
    found = find_model("a.pth")
    assert isinstance(found.source, WeightFile)
    assert found.file.samefile(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiny:nscl@3", r"tiny:nscl@3: 3 is not a saved epoch \(2\)"),
        ("tiny:nsc@2", r"tiny:nsc@2: 'nsc' is not a model there; did you mean 'nscl'\?"),
        ("tini:nscl@2", r"tini: not a run directory; did you mean 'tiny'\?"),
        ("theirs:ce@5", r"theirs:ce@5: 'ce' is not a model there"),
        ("runs:cl@5", "runs: holds no snapshots; expected are the folders"),
        ("tiny:nscl", "tiny:nscl: no such file; a model of a run is written RUN:OBJECTIVE@EPOCH"),
        ("", "an empty text names no model"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(text, message):
    with pytest.raises(ConfigError, match=message):
        find_model(text)
