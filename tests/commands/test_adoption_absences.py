"""Objectives and epochs that checkpoints of the original code lack."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from alignctl.metrics import compare
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import save_weights
from alignctl.runs.directory import checkpoint_file
from alignctl.runs.table_files import read_parquet

ORIGINAL = ["Epoch", "NSCL_RSA", "SCL_RSA", "NSCL_CKA", "SCL_CKA", "CE_RSA", "CE_CKA"]
EVAL = ["eval-alignment", "--config", "study.yaml", "--checkpoints", "theirs", "--output", "out"]
GAP = ["weight-gap", "--checkpoints", "theirs", "--output", "out"]
THERE = Path("theirs")


def out():
    """The run as it lies now: a RunDirectory remembers what it has read."""
    return RunDirectory(Path("out"))


def scores_of(table, split):
    rows = table[(table["split"] == split) & (table["reference"] == "cl")]
    keys = rows[["epoch", "objective", "metric"]].itertuples(index=False, name=None)
    return dict(zip(keys, rows["value"], strict=True))


def expected_scores(features, split, pairs):
    found = {}
    for name, epoch in pairs:
        spaces = [features(split, each, epoch) for each in ("cl", name)]
        for score in compare(*spaces, ["cka", "cka hsic=debiased", "rsa"]):
            found[epoch, name, score.metric] = score.value
    return found


def test_an_objective_that_is_not_there_is_one_warning_and_empty_cells(call, theirs):
    shutil.rmtree(THERE / "scl")
    shutil.rmtree(THERE / "ce")
    ended = call(*EVAL, "--split", "test")
    assert ended.code == 0
    folder = THERE.absolute()
    assert ended.stderr == (f"warning: {folder}: no snapshots of scl, ce, whose cells stay empty\n")
    table = pd.read_csv("out/test_alignment.csv")
    assert list(table.columns) == ORIGINAL
    assert table[["NSCL_RSA", "NSCL_CKA"]].notna().all(axis=None)
    assert table[["SCL_RSA", "SCL_CKA", "CE_RSA", "CE_CKA"]].isna().all(axis=None)
    assert out().config.objective_names == ("cl", "nscl")
    gap = call("weight-gap", "out")
    assert gap.stderr == ended.stderr
    assert [p.name for p in out().weight_gap.glob("*.csv")] == ["cl_vs_nscl.csv"]


def test_an_objective_that_comes_later_joins(call, theirs, tmp_path):
    (THERE / "ce").rename(tmp_path / "aside")
    call(*EVAL, "--split", "test")
    (tmp_path / "aside").rename(THERE / "ce")
    ended = call(*EVAL, "--split", "test")
    assert (ended.code, ended.stderr) == (0, "")
    assert out().config.objective_names == ("cl", "nscl", "scl", "ce")
    assert set(Manifest.read(out().manifest_file).initial_weights) == {"cl", "nscl", "scl", "ce"}
    assert pd.read_csv("out/test_alignment.csv").notna().all(axis=None)
    shutil.rmtree(THERE / "ce")
    assert "no snapshots of ce" in call(*EVAL, "--split", "test").stderr
    assert "ce" in out().config.objective_names, "what was measured before stays named"


def test_an_epoch_that_one_objective_lacks_is_one_warning_and_an_empty_cell(call, theirs, features):
    (THERE / "nscl" / "snapshot_1.pth").unlink()
    (THERE / "ce" / "snapshot_1.pth").unlink()
    (THERE / "ce" / "snapshot_2.pth").unlink()
    warning = (
        f"warning: {THERE.absolute()}: no snapshots at some epochs, whose cells stay empty "
        "(nscl 1; ce 1, 2)\n"
    )
    ended = call(*EVAL, "--split", "test")
    assert (ended.code, ended.stderr) == (0, warning)
    pairs = [("nscl", 0), ("nscl", 2), ("scl", 0), ("scl", 1), ("scl", 2), ("ce", 0)]
    found = scores_of(read_parquet(out().alignment_table), "test")
    assert found == pytest.approx(expected_scores(features, "test", pairs), abs=2e-5)
    table = pd.read_csv("out/test_alignment.csv").set_index("Epoch")
    assert table.notna()["NSCL_CKA"].to_dict() == {0: True, 1: False, 2: True}
    assert table.notna()["CE_RSA"].to_dict() == {0: True, 1: False, 2: False}
    assert table["SCL_RSA"].notna().all()
    line = next(line for line in ended.stdout.splitlines() if line.startswith(" 1 "))
    assert line.split().count("-") == 2 * 3
    again = json.loads(call(*EVAL, "--split", "test", "--json").stdout)
    assert again["evaluated"] == 0
    gap = call("weight-gap", "out")
    assert (gap.code, gap.stderr) == (0, warning)
    assert pd.read_csv("out/cl_vs_nscl.csv")["Epoch"].tolist() == [0, 2]
    report = call("report", "to", "markdown", "out")
    assert (report.code, report.stderr) == (0, "")
    text = (out().report / "report.md").read_text()
    assert "nan" not in text.lower().replace("nan-", "")


def test_an_epoch_that_the_reference_lacks_is_left_out(call, theirs):
    (THERE / "dcl" / "snapshot_1.pth").unlink()
    ended = call(*EVAL, "--split", "test")
    left_out = f"warning: {THERE.absolute()}: epochs without the reference are left out (cl 1)\n"
    assert ended.stderr == left_out
    assert pd.read_csv("out/test_alignment.csv")["Epoch"].tolist() == [0, 2]
    ended = call(*EVAL, "--split", "test", "--epochs", "1")
    assert (ended.code, ended.stderr.splitlines()[-1]) == (
        2, "error: --epochs: '1' is not a saved epoch (0, 2)",
    )  # fmt: skip
    assert call(*EVAL, "--split", "test", "--every", "2").stderr == "", "none of those lacks"
    (THERE / "ce" / "snapshot_1.pth").unlink()
    (THERE / "ce" / "snapshot_2.pth").unlink()
    empty = (
        f"warning: {THERE.absolute()}: no snapshots at some epochs, whose cells stay empty (ce 2)\n"
    )
    assert call("weight-gap", "out").stderr == left_out + empty
    every = call("eval-alignment", "out", "--all-pairs", "--split", "test")
    assert every.stderr == empty.replace("(ce 2)", "(cl 1; ce 1, 2)"), "no reference of all"


def test_json_stays_one_document_beside_warnings(call, theirs):
    shutil.rmtree(THERE / "ce")
    ended = call(*GAP, "--json")
    assert {row["objective"] for row in json.loads(ended.stdout)["rows"]} == {"nscl", "scl"}
    assert ended.stderr.startswith("warning: ")
    ended = call(*EVAL, "--split", "test", "--json")
    assert {row["objective"] for row in json.loads(ended.stdout)["rows"]} == {"nscl", "scl"}


def test_a_checkpoint_that_a_run_of_our_own_lacks_is_no_absence(
    call, small_study, one_process, make_manifest
):
    run = RunDirectory(Path("runs/own"))
    run.write_config(small_study("objectives=[cl, nscl]"))
    make_manifest().write(run.manifest_file)
    save_weights(checkpoint_file(run, "cl", 1), {"encoder.a.weight": torch.ones(2)})
    ended = call("weight-gap", "own")
    assert ended.stderr == (
        f"error: {run.path.absolute()}/checkpoints: no epoch has weights of both cl and nscl\n"
    )
    assert ended.code == 1
