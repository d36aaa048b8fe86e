import pandas as pd
import pytest

from alignctl.errors import CheckpointError
from alignctl.reporting.table_sources import RunTables, SweepTables, read_source
from alignctl.runs.sweep_folder import SweepDescription, SweepDirectory
from alignctl.runs.table_files import write_parquet


def test_a_run_is_read_with_all_its_tables(tmp_path, make_source, alignment, make_study):
    source = make_source(tmp_path / "tiny-2")
    assert source.name == "tiny-2"
    assert source.study == make_study()
    assert source.manifest.num_train_images == 1437
    pd.testing.assert_frame_equal(source.alignment, alignment)
    assert set(source.weight_gap["objective"]) == {"nscl", "ce"}
    assert source.training["loss"].tolist() == [2.0, 1.0, 1.0, 0.5] * 4


def test_tables_that_were_not_made_yet_are_empty(tmp_path, make_run):
    make_run(tmp_path / "run")
    source = read_source(tmp_path / "run")
    assert isinstance(source, RunTables)
    assert source.alignment.empty
    assert source.weight_gap.empty
    assert source.training.empty


def test_the_name_of_the_folder_one_stands_in_is_known(tmp_path, make_run, monkeypatch):
    run = make_run(tmp_path / "mine")
    monkeypatch.chdir(run.path)
    assert read_source(type(run.path)(".")).name == "mine"


@pytest.mark.parametrize("table", ["alignment_table", "weight_gap_table", "training_table"])
def test_a_damaged_table_is_named(tmp_path, make_run, table):
    path = getattr(make_run(tmp_path), table)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"PAR1 no")
    with pytest.raises(CheckpointError, match=f"{path.name}: cannot be read"):
        read_source(tmp_path)


def test_a_sweep_is_read_with_the_runs_that_were_started(tmp_path, make_run, make_study):
    sweep = SweepDirectory(tmp_path / "sweep")
    study = make_study(temperature=0.1)
    sweep.describe(SweepDescription("temperature", "temperature", (0.1, 0.5, 1.0), study))
    for value in (1.0, 0.1):
        make_run(sweep.run("temperature", value).path, make_study(temperature=value))
    write_parquet(sweep.table, pd.DataFrame({"temperature": [0.1], "value": [0.5]}))
    source = read_source(sweep.path)
    assert isinstance(source, SweepTables)
    assert source.name == "sweep"
    assert source.description.values == (0.1, 0.5, 1.0)
    assert [run.study.temperature for run in source.runs] == [0.1, 1.0]
    assert source.alignment["value"].tolist() == [0.5]


def test_a_sweep_that_has_just_begun_is_empty(tmp_path, make_study):
    sweep = SweepDirectory(tmp_path)
    sweep.describe(SweepDescription("temperature", "temperature", (0.1,), make_study()))
    source = read_source(tmp_path)
    assert source.alignment.empty
    assert source.runs == ()
