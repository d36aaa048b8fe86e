import os
import shutil

import pytest

from alignctl.original.evaluated import changed, evaluated, forget, identity, remember, unproven
from alignctl.original.snapshot_files import OriginalCheckpoints, write_pointer
from alignctl.runs import RunDirectory


@pytest.fixture
def theirs(tmp_path):
    """Files of cl and ce after epochs 0 and 10."""
    for name in ("dcl", "ce"):
        for epoch in (0, 10):
            path = tmp_path / "theirs" / name / f"snapshot_{epoch}.pth"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} {epoch}")
    return OriginalCheckpoints(tmp_path / "theirs", ("cl", "ce"))


@pytest.fixture
def run(tmp_path, theirs):
    """An adopted run whose rows came from all of them."""
    run = RunDirectory(tmp_path / "out")
    write_pointer(run.pointer_file, theirs)
    for epoch in (10, 0):
        remember(run, {(n, epoch): identity(theirs.file(n, epoch)) for n in ("cl", "ce")})
    return run


def test_what_was_evaluated_is_remembered_epoch_by_epoch(run, theirs):
    stat = (theirs.folder / "ce" / "snapshot_10.pth").stat()
    assert evaluated(run)["ce", 10] == (5, stat.st_mtime_ns)
    assert set(evaluated(run)) == {("cl", 0), ("cl", 10), ("ce", 0), ("ce", 10)}
    assert changed(run, theirs) == {}
    assert unproven(run, theirs, evaluated(run)) == set()


def test_another_size_or_date_is_a_change_and_a_file_that_is_gone_is_none(run, theirs):
    theirs.file("cl", 10).write_text("longer than it was")
    stat = theirs.file("ce", 0).stat()
    os.utime(theirs.file("ce", 0), ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    theirs.file("ce", 10).unlink()
    assert changed(run, theirs) == {"ce": [0], "cl": [10]}
    assert ("ce", 10) in evaluated(run), "what is gone now was there"


def test_what_is_known_stays_until_it_is_forgotten(run, theirs):
    theirs.file("cl", 10).write_text("longer than it was")
    seen = {("cl", 10): identity(theirs.file("cl", 10)), ("nscl", 10): None}
    remember(run, seen)
    assert changed(run, theirs) == {"cl": [10]}, "there may be rows of the file before"
    forget(run, unproven(run, theirs, []))
    assert ("cl", 10) not in evaluated(run)
    remember(run, seen)
    assert changed(run, theirs) == {}
    assert evaluated(run)["cl", 10] == (18, theirs.file("cl", 10).stat().st_mtime_ns)
    before = run.evaluated_file.stat()
    forget(run, [("nscl", 10)])
    assert run.evaluated_file.stat() == before, "nothing to forget is nothing to write"


def test_the_same_files_in_another_place_are_the_same(run, theirs, tmp_path):
    shutil.copytree(theirs.folder, tmp_path / "moved")
    assert changed(run, OriginalCheckpoints(tmp_path / "moved", theirs.objectives)) == {}


def test_what_was_never_remembered_is_unproven_and_not_changed(run, theirs):
    assert unproven(run, theirs, [("ce", 10), ("nscl", 10)]) == {("nscl", 10)}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema_version": 2, "snapshots": {}}', '{"schema_version": 1}',
             '{"schema_version": 1, "snapshots": []}',
             '{"schema_version": 1, "snapshots": {"cl": {"0": 5}}}'],
)  # fmt: skip
def test_what_cannot_be_read_proves_nothing(run, theirs, text):
    run.evaluated_file.write_text(text)
    assert evaluated(run) == {}
    assert unproven(run, theirs, [("cl", 0)]) == {("cl", 0)}


def test_a_file_that_is_not_there_has_no_identity(tmp_path):
    assert identity(tmp_path / "a.pth") is None
