"""What runs without training."""

import json
from pathlib import Path

import pandas as pd
import pytest

from alignctl.config.metric_configs import ORIGINAL_CKA, ORIGINAL_RSA
from alignctl.errors import AlignctlError
from alignctl.runs.table_files import write_parquet


def test_resuming_a_finished_run_trains_nothing_and_says_so(call, finished_run, snapshot):
    before = snapshot()
    result = call("pretrain", "--resume")
    assert result.exit_code == 0
    assert "runs/tiny: finished already" in result.stdout
    assert "0.5000" in result.stdout
    assert snapshot() == before


def test_json_is_one_document_on_stdout(call, finished_run):
    result = call("pretrain", "--resume", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["losses"] == {"cl": 0.5, "nscl": 0.25, "scl": 0.25, "ce": 0.25}
    assert found["objectives"] == ["cl", "nscl", "scl", "ce"]
    assert found["epochs"] == 10


@pytest.mark.parametrize(("words", "timeout_s"), [([], 1800.0), (["--timeout", "2.5"], 2.5)])
def test_training_is_told_when_a_worker_counts_as_hung(call, monkeypatch, words, timeout_s):
    told = {}

    def run(plan, **options):
        told.update(options)
        raise AlignctlError("enough")

    monkeypatch.setattr("alignctl.commands.pretrain.run", run)
    assert call("pretrain", *words).stderr == "error: enough\n"
    assert told["timeout_s"] == timeout_s


def test_a_report_is_written_into_the_run_and_its_answer_is_printed(call, finished_run):
    rows = [
        {"epoch": 10, "split": "test", "representation": "h", "reference": "cl",
         "objective": name, "metric": metric, "value": value, "num_images": 360}
        for metric in (ORIGINAL_CKA, ORIGINAL_RSA) for name, value in (("nscl", 0.75), ("ce", 0.5))
    ]  # fmt: skip
    write_parquet(finished_run.alignment_table, pd.DataFrame(rows))
    result = call("report", "to", "markdown")
    assert result.exit_code == 0, result.stderr
    answer = (
        "After epoch 10, on 360 test images, "
        "by CKA NSCL (0.750) is closest to CL, 0.250 ahead of CE (0.500); "
        "by RSA NSCL (0.750) is closest to CL, 0.250 ahead of CE (0.500). "
        "No score at this epoch: SCL."
    )
    assert result.stdout.splitlines() == [
        answer,
        "runs/tiny/report/report.md: written, with 2 figures",
    ]
    assert answer in Path("runs/tiny/report/report.md").read_text()
    found = json.loads(call("report", "to", "markdown", "--json").stdout)
    assert found["answers"] == [answer]
    assert all(Path(figure).is_file() for figure in found["figures"])


def test_a_run_that_was_not_evaluated_can_be_reported(call, finished_run):
    result = call("report", "to", "markdown")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Not evaluated yet: run `alignctl eval-alignment`.\n")
