from dataclasses import dataclass

import pytest

from alignctl.commands import run_kinds
from alignctl.commands.run_kinds import source_of, verification_of
from alignctl.errors import CheckpointError
from alignctl.models.own_run import OwnRun
from alignctl.models.weight_file import WeightFile
from alignctl.original.adopted_run import AdoptedRun
from alignctl.original.snapshot_checks import AdoptedRunVerification
from alignctl.original.snapshot_files import OriginalCheckpoints, write_pointer
from alignctl.runs import RunDirectory
from alignctl.verify.trained_run import TrainedRun


@pytest.fixture
def own(tmp_path):
    return RunDirectory(tmp_path / "own")


@pytest.fixture
def adopted(tmp_path):
    run = RunDirectory(tmp_path / "adopted")
    write_pointer(run.pointer_file, OriginalCheckpoints(tmp_path, ("cl",)))
    return run


def test_a_run_says_where_its_models_come_from(own, adopted):
    assert source_of(own) == OwnRun(own)
    assert isinstance(source_of(adopted), AdoptedRun)


def test_each_kind_of_run_has_its_checks(own, adopted, make_study):
    study = make_study()
    assert verification_of(own, study=study, epoch=3) == TrainedRun(own, study, 3)
    found = verification_of(adopted, study=None, epoch=None)
    assert isinstance(found, AdoptedRunVerification)
    assert found.adopted == source_of(adopted)


def test_a_damaged_pointer_is_named(adopted):
    adopted.pointer_file.write_text("{")
    with pytest.raises(CheckpointError, match=r"original\.json: cannot be read"):
        source_of(adopted)


def test_a_further_kind_takes_one_line(own, monkeypatch):
    @dataclass(frozen=True)
    class Verification:
        source: WeightFile

    kind = run_kinds._Kind(
        lambda run: WeightFile(run.path / "a.pth"),
        lambda source, study, epoch: Verification(source),
    )
    monkeypatch.setattr(run_kinds, "_KINDS", (kind, *run_kinds._KINDS))
    assert source_of(own).objectives == ("a",)
    assert verification_of(own, study=None, epoch=None).source == source_of(own)
