import pickle
from pathlib import Path

import pytest

from alignctl.errors import ConfigError
from alignctl.original.adopted_run import AdoptedRun, open_adopted
from alignctl.original.snapshot_files import OriginalCheckpoints, write_pointer
from alignctl.original.snapshots import snapshots_in
from alignctl.runs import RunDirectory


@pytest.fixture
def theirs(tmp_path):
    """Snapshots of what it calls dcl after epochs 0 and 10, and a folder of nscl without any."""
    for path in ("dcl/snapshot_0.pth", "dcl/snapshot_10.pth"):
        (tmp_path / "theirs" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "theirs" / path).write_text(path)
    return OriginalCheckpoints(tmp_path / "theirs", ("cl", "nscl"))


@pytest.fixture
def adopted(tmp_path, theirs):
    run = RunDirectory(tmp_path / "out")
    write_pointer(run.pointer_file, theirs)
    return open_adopted(run)


def test_only_objectives_with_snapshots_are_compared(adopted):
    assert adopted.objectives == ("cl", "nscl")
    assert adopted.comparable == ("cl",)
    assert adopted.missing == ("nscl", "scl", "ce")
    assert [adopted.name_of(word) for word in ("dcl", "cl", "other")] == ["cl", "cl", "other"]


def test_a_reference_without_snapshots_is_refused_by_its_folder(adopted):
    adopted.refuse_missing_reference("cl")
    adopted.refuse_missing_reference("unknown")  # the command says that it is no objective
    with pytest.raises(ConfigError, match=r"has no snapshots of nscl \(folder nscl\), which"):
        adopted.refuse_missing_reference("nscl")


def test_nothing_is_written_among_the_snapshots(adopted, theirs):
    adopted.refuse_output(theirs.folder.parent)
    for inside in (theirs.folder, theirs.folder / "dcl" / "tables"):
        with pytest.raises(ConfigError, match="which is only read"):
            adopted.refuse_output(inside)


def test_files_are_remembered_until_they_change(adopted, theirs):
    models = [("cl", 0), ("cl", 10)]
    adopted.remember(adopted.identities(models))
    assert (adopted.changed(), adopted.unproven(models)) == ({}, set())
    theirs.file("cl", 10).write_text("longer than it was before")
    assert adopted.changed() == {"cl": [10]}
    assert adopted.unproven(models) == {("cl", 10)}
    adopted.forget([("cl", 10)])
    assert adopted.changed() == {}


def test_a_config_is_what_was_given_or_what_the_run_has(adopted, make_study):
    with pytest.raises(ConfigError, match="out: has no config, for none was given with its"):
        _ = adopted.config
    adopted.run.write_config(make_study(seed=1))
    assert AdoptedRun(adopted.checkpoints, run=adopted.run).config.seed == 1
    assert adopted.with_config(make_study(seed=2)).config.seed == 2


def test_a_source_crosses_to_workers(adopted):
    assert pickle.loads(pickle.dumps(adopted)) == adopted


def test_snapshots_without_a_run_have_no_config_and_no_memory(theirs, make_study):
    source = snapshots_in(theirs.folder)
    assert (source.objectives, source.where) == (("cl",), str(theirs.folder))
    source.remember(source.identities([("cl", 0)]))
    assert source.changed() == {}
    with pytest.raises(ConfigError, match="theirs: snapshots have no config; give one"):
        _ = source.config
    assert source.with_config(make_study()).config == make_study()
    assert {path.suffix for path in Path(theirs.folder).rglob("*") if path.is_file()} == {".pth"}
