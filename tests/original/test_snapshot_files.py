import json
import os
import shutil
from pathlib import Path

import pytest

from alignctl.errors import CheckpointError, ConfigError
from alignctl.original.adopted_run import open_adopted
from alignctl.original.snapshot_files import (
    OriginalCheckpoints,
    find_checkpoints,
    read_pointer,
    write_pointer,
)
from alignctl.runs import RunDirectory
from alignctl.runs.directory import comparable_epochs, newest


@pytest.fixture
def folder(tmp_path):
    """Snapshots of cl after epochs 0, 5 and 10, of ce after 10, and things that are none."""
    names = ["dcl/snapshot_0.pth", "dcl/snapshot_10.pth", "dcl/snapshot_5.pth",
             "ce/snapshot_10.pth", "ce/snapshot_best.pth", "ce/snapshot_20.pth.tmp",
             "scl/notes.txt", "linear/snapshot_3.pth", "nscl"]  # fmt: skip
    for name in names:
        path = tmp_path / "checkpoints" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "checkpoints"


def test_every_objective_with_snapshots_is_found_and_its_dcl_is_our_cl(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    found = find_checkpoints(Path("checkpoints"))
    assert found == OriginalCheckpoints(folder, ("cl", "ce"))
    assert found.epochs("cl") == [0, 5, 10]
    assert found.epochs("ce") == [10]
    assert found.epochs("nscl") == found.epochs("scl") == []
    assert found.file("cl", 5) == folder / "dcl" / "snapshot_5.pth"
    assert found.file("nscl", 7) == folder / "nscl" / "snapshot_7.pth", "where it would lie"


def test_numbers_may_be_padded_and_the_folder_may_have_our_name(tmp_path):
    path = tmp_path / "cl" / "snapshot_0010.pth"
    path.parent.mkdir()
    path.touch()
    found = find_checkpoints(tmp_path)
    assert (found.objectives, found.epochs("cl"), found.file("cl", 10)) == (("cl",), [10], path)


def test_two_folders_of_one_objective_are_refused(folder):
    (folder / "cl").mkdir()
    (folder / "cl" / "snapshot_1.pth").touch()
    with pytest.raises(ConfigError, match="dcl and cl are one objective; keep one of them"):
        find_checkpoints(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "none: no such folder; it has to hold the folders dcl, nscl, scl and ce, each"),
        ("dcl", "dcl: holds no snapshots; expected are the folders dcl, nscl, scl and ce, each"),
    ],
)
def test_a_folder_without_snapshots_says_what_is_expected(folder, name, message):
    with pytest.raises(ConfigError, match=message):
        find_checkpoints(folder / name)


def test_a_pointer_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "original.json"
    assert read_pointer(path) is None
    checkpoints = OriginalCheckpoints(tmp_path / "there", ("cl", "scl"))
    write_pointer(path, checkpoints)
    assert read_pointer(path) == checkpoints


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read: "),
        ("[]", "cannot be read: "),
        ("{}", "cannot be read: 'schema_version'"),
        ('{"schema_version": 9}', "schema version 9; this alignctl reads 1"),
        ('{"schema_version": 1, "objectives": ["mae"], "checkpoints": "/"}',
         r"cannot be read: objectives \['mae'\]"),
        ('{"schema_version": 1, "objectives": [], "checkpoints": "/"}', "cannot be read: "),
    ],
)  # fmt: skip
def test_a_pointer_that_is_damaged_or_too_new_is_named(tmp_path, text, message):
    path = tmp_path / "original.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=rf"original\.json: {message}"):
        read_pointer(path)


@pytest.fixture
def adopted(folder, tmp_path):
    """A run directory that points to the snapshots, and has no config."""
    run = RunDirectory(tmp_path / "run")
    write_pointer(run.pointer_file, find_checkpoints(folder))
    return run


def test_an_adopted_run_has_the_snapshots_for_its_checkpoints(adopted, folder):
    source = open_adopted(adopted)
    assert source.objectives == ("cl", "ce")
    assert source.epochs("cl") == [0, 5, 10]
    assert source.file("ce", 10) == folder / "ce" / "snapshot_10.pth"
    assert open_adopted(RunDirectory(adopted.path.with_name("own"))) is None


def test_an_adopted_run_without_a_config_says_how_to_give_one(adopted, folder):
    with pytest.raises(ConfigError) as error:
        _ = open_adopted(adopted).config
    command = f"`alignctl eval-alignment --config FILE --checkpoints {folder} --output "
    assert command in str(error.value)


def test_an_adoption_cut_short_leaves_the_folder_free(adopted):
    assert adopted.is_free
    adopted.manifest_file.write_text(json.dumps({}))
    assert not adopted.is_free


def test_pairs_are_compared_wherever_both_are_or_only_where_all_are():
    saved = {"cl": [0, 1, 2, 10], "ce": [10, 2, 1], "scl": [1, 10, 20], "nscl": []}
    pairs = [("cl", "ce"), ("cl", "scl")]
    assert comparable_epochs(saved, pairs, pair_by_pair=True) == {
        ("cl", "ce"): [1, 2, 10], ("cl", "scl"): [1, 10],
    }  # fmt: skip
    assert comparable_epochs(saved, pairs, pair_by_pair=False) == {
        ("cl", "ce"): [1, 10], ("cl", "scl"): [1, 10],
    }  # fmt: skip
    pairs.append(("cl", "nscl"))
    assert comparable_epochs(saved, pairs, pair_by_pair=True)["cl", "nscl"] == []
    assert set(map(len, comparable_epochs(saved, pairs, pair_by_pair=False).values())) == {0}


def test_the_newest_run_may_be_an_adopted_one(adopted, make_run, make_manifest, monkeypatch):
    monkeypatch.chdir(adopted.path.parent)
    own = make_run(Path("runs/own"))
    os.utime(own.config_file, (100, 100))
    assert newest() == Path("runs/own")
    shutil.copytree(adopted.path, "runs/theirs")
    make_manifest(status="adopted").write(Path("runs/theirs/manifest.json"))
    assert newest() == Path("runs/theirs")
