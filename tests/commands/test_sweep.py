import json
import shutil
from pathlib import Path

import pandas as pd

from alignctl.cli.sweep_command import table_of
from alignctl.commands.sweep import SweepResult
from alignctl.config.metric_configs import DEBIASED_CKA, ORIGINAL_CKA, ORIGINAL_RSA
from alignctl.engine.context import WorkerContext
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.lock import run_lock
from alignctl.runs.table_files import read_parquet

SWEEP = Path("runs/digits-temperature")


def run_at(value):
    return RunDirectory(SWEEP / f"temperature={value}")


def count(run, kind):
    return run.events_file.read_text().count(f'"event": "{kind}"')


def test_a_sweep_trains_and_evaluates_each_value_and_skips_it_afterwards(call, short):
    first = call("sweep", "temperature", *short, "--values", "0.5,1.0")
    assert (first.code, first.stderr) == (0, "")
    assert "temperature=0.5: training\n" in first.stdout
    second = call("sweep", "temperature", *short, "--values", "1,0.5")
    assert (second.code, second.stderr) == (0, "")
    assert "temperature=1.0: trained already\n" in second.stdout
    for value in (0.5, 1.0):
        assert run_at(value).config.temperature == value
        assert count(run_at(value), "start") == count(run_at(value), "epoch") == 1
    assert sorted(path.name for path in SWEEP.iterdir()) == [
        "sweep.csv", "sweep.json", "sweep.parquet", "temperature=0.5", "temperature=1.0",
    ]  # fmt: skip


def test_one_table_holds_the_alignment_of_all_values(call, short):
    ended = call("sweep", "temperature", *short, "--values", "0.5,1.0", "--json")
    table = pd.read_parquet(SWEEP / "sweep.parquet")
    for value in (0.5, 1.0):
        own = table[table["temperature"] == value].drop(columns="temperature")
        expected = read_parquet(run_at(value).alignment_table)
        pd.testing.assert_frame_equal(own.reset_index(drop=True), expected, check_dtype=False)
    table = table.astype({"note": float})  # of rows that all have a value
    pd.testing.assert_frame_equal(pd.read_csv(SWEEP / "sweep.csv"), table, check_dtype=False)
    rows = json.loads(ended.stdout)["rows"]
    assert {(row["temperature"], row["split"], row["metric"]) for row in rows} == {
        (value, split, metric)
        for value in (0.5, 1.0)
        for split in ("train", "test")
        for metric in (ORIGINAL_CKA, DEBIASED_CKA, ORIGINAL_RSA)
    }
    last = table[table["epoch"] == 1]
    assert [row["value"] for row in rows] == last["value"].tolist()


def test_a_failing_value_is_reported_at_the_end_while_the_others_complete(call, short):
    call("sweep", "temperature", *short, "--values", "0.5")
    shutil.copytree(run_at(0.5).path, run_at(0.2).path)  # a run of another temperature
    run_at(0.3).path.touch()
    ended = call("sweep", "temperature", *short, "--values", "0.2,0.3,0.5,1.0,1e-300")
    assert ended.code == 1
    heading, *lines = ended.stderr.splitlines()
    assert heading == "error: these values failed:"
    assert lines[0].startswith(f"temperature=0.2: {run_at(0.2).path}: holds a run with another")
    assert "temperature is 0.2 here and 0.5 there" in lines[0]
    assert lines[1].startswith(f"temperature=0.3: {run_at(0.3).path}: is a file")
    assert lines[2].startswith("temperature=1e-300: objective 'cl': the loss is nan at epoch 1")
    assert len(lines) == 3
    assert Manifest.read(run_at(1.0).manifest_file).status == "finished"
    assert Manifest.read(run_at(1e-300).manifest_file).status == "failed"
    assert (run_at(0.2).alignment / "test_alignment.csv").exists()
    assert set(pd.read_csv(SWEEP / "sweep.csv")["temperature"]) == {0.5, 1.0}
    assert call("sweep", "temperature", *short, "--values", "1.0").code == 0
    assert set(pd.read_csv(SWEEP / "sweep.csv")["temperature"]) == {0.5, 1.0}
    report = call("report", "to", "markdown")
    assert (report.code, report.stderr) == (0, "")


def test_a_value_that_fails_is_tried_again(call, short):
    call("sweep", "temperature", *short, "--values", "0.5")
    run_at(0.3).path.touch()
    assert call("sweep", "temperature", *short, "--values", "0.3,0.5").code == 1
    run_at(0.3).path.unlink()
    assert call("sweep", "temperature", *short, "--values", "0.3,0.5").code == 0
    assert set(pd.read_csv(SWEEP / "sweep.csv")["temperature"]) == {0.3, 0.5}


def test_only_the_sweeps_own_comparison_is_in_its_result(call, short):
    words = ["sweep", "temperature", *short, "--values", "0.5", "--json"]
    before = json.loads(call(*words).stdout)
    other = ["--reference", "nscl", "--representation", "g"]
    assert call("eval-alignment", run_at(0.5).path, *other).code == 0
    assert json.loads(call(*words).stdout) == before


def test_a_sweep_whose_values_all_fail_has_an_empty_table(call, short):
    ended = call("sweep", "temperature", *short, "--values", "1e-300", "--json")
    assert ended.code == 1
    result = json.loads(ended.stdout)
    assert (result["rows"], list(result["failures"])) == ([], ["temperature=1e-300"])
    assert (SWEEP / "sweep.csv").read_text().startswith("temperature,epoch,split,")
    assert len(pd.read_parquet(SWEEP / "sweep.parquet")) == 0


def test_the_printed_table_has_a_line_per_value_and_split_and_gaps_where_a_value_is_missing():
    rows = [
        {"temperature": value, "split": split, "objective": name, "metric": metric, "value": number}
        for value, split, name, metric, number in [
            (0.5, "train", "nscl", ORIGINAL_RSA, 0.1),
            (0.5, "train", "nscl", DEBIASED_CKA, 0.2),
            (0.5, "train", "ce", DEBIASED_CKA, 0.3),
            (1.0, "test", "nscl", ORIGINAL_CKA, 0.4),
            (1.0, "test", "nscl", DEBIASED_CKA, 0.5),
        ]
    ]
    columns, lines = table_of(SweepResult("runs/s", "temperature", "cl", rows, {}))
    assert columns == [
        "temperature", "split", "CKA nscl", "debiased\nCKA nscl", "debiased\nCKA ce", "RSA nscl",
    ]  # fmt: skip
    assert lines == [
        ["0.5", "train", None, 0.2, 0.3, 0.1],
        ["1", "test", 0.4, 0.5, None, None],
    ]


def test_a_sweep_that_is_told_to_stop_starts_no_other_value(call, short, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(WorkerContext, "stops_before", lambda context, step: step >= 1)
        stopped = call("sweep", "temperature", *short, "--values", "0.5,1.0")
    assert stopped.code == 75
    assert stopped.stderr == (
        f"error: {SWEEP}: stopped at temperature=0.5, all is saved; run the same sweep again\n"
    )
    assert Manifest.read(run_at(0.5).manifest_file).status == "interrupted"
    assert not run_at(1.0).path.exists()
    assert call("sweep", "temperature", *short, "--values", "0.5,1.0").code == 0
    assert count(run_at(0.5), "start") == 2


def test_two_sweeps_do_not_write_to_one_folder(call, short):
    with run_lock(SWEEP, "sweep"):
        ended = call("sweep", "temperature", *short, "--run-dir", SWEEP)
    assert ended.code == 1
    assert f"{SWEEP}: in use by another `alignctl sweep` " in ended.stderr
