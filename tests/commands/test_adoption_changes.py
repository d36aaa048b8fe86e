"""Checkpoints and configs that change after results were computed with them."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from alignctl.evaluators import alignment
from alignctl.metrics import compare
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.table_files import read_parquet

EVAL = ["eval-alignment", "--config", "study.yaml", "--checkpoints", "theirs", "--output", "out"]
GAP = ["weight-gap", "--checkpoints", "theirs", "--output", "out"]
THERE = Path("theirs")


def out():
    """The run as it lies now: a RunDirectory remembers what it has read."""
    return RunDirectory(Path("out"))


def put(source, name, epoch):
    """The snapshot of `source` after epoch 1 in the place of another."""
    shutil.copyfile(THERE / source / "snapshot_1.pth", THERE / name / f"snapshot_{epoch}.pth")


def warning(listed):
    return (
        f"warning: {THERE.absolute()}: in size or date not the snapshots that were evaluated, "
        f"whose rows are dropped and, where asked for, made anew ({listed})\n"
    )


def cka_of(split, column="NSCL_CKA", folder="out"):
    table = pd.read_csv(Path(folder) / f"{split}_alignment.csv").set_index("Epoch")
    return table[column].to_dict()


# --- snapshots


def test_rows_of_snapshots_that_changed_are_made_anew(call, theirs, features):
    call(*EVAL, "--metric", "cka")
    before = {split: cka_of(split) for split in ("train", "test")}
    assert call(*EVAL, "--metric", "cka").stderr == ""
    put("dcl", "dcl", 2)
    put("ce", "nscl", 2)
    dry = call(*EVAL, "--metric", "cka", "--dry-run")
    assert dry.stderr == warning("cl 2; nscl 2")
    ended = call(*EVAL, "--metric", "cka", "--json")
    assert (ended.code, ended.stderr) == (0, warning("cl 2; nscl 2"))
    assert json.loads(ended.stdout)["evaluated"] == 2, "epoch 2 on both splits"
    for split in ("train", "test"):
        spaces = [features(split, name, 1) for name in ("cl", "ce")]
        (score,) = compare(*spaces, ["cka"])
        after = cka_of(split)
        assert after.pop(2) == pytest.approx(score.value, abs=2e-5)
        assert before[split].pop(2) != pytest.approx(score.value, abs=1e-3)
        assert after == before[split]
    again = call("eval-alignment", "out", "--metric", "cka", "--json")
    assert (json.loads(again.stdout)["evaluated"], again.stderr) == (0, "")


def test_what_is_not_asked_for_again_is_gone_and_not_old(call, theirs):
    call(*EVAL)
    for epoch in (0, 1, 2):
        path = THERE / "dcl" / f"snapshot_{epoch}.pth"
        os.utime(path, ns=(1, 1))
    ended = call("eval-alignment", "out", "--split", "test", "--compare", "nscl")
    assert (ended.code, ended.stderr) == (0, warning("cl 0, 1, 2"))
    table = read_parquet(out().alignment_table)
    assert set(table["split"]) == {"test"}
    assert set(table["objective"]) == {"nscl"}
    assert not Path("out/train_alignment.csv").exists()
    assert not (out().alignment / "train_alignment.csv").exists()
    call(*EVAL)
    assert pd.read_csv("out/train_alignment.csv").notna().all(axis=None)
    assert pd.read_csv("out/test_alignment.csv").notna().all(axis=None)


def test_rows_of_which_nobody_knows_the_snapshots_are_made_anew(call, theirs):
    call(*EVAL, "--split", "test")
    out().evaluated_file.unlink()  # as after a kill before it was written
    ended = call("eval-alignment", "out", "--split", "test", "--json")
    assert (json.loads(ended.stdout)["evaluated"], ended.stderr) == (3, "")


def test_a_snapshot_that_changes_while_it_is_evaluated_is_evaluated_again(
    call, theirs, monkeypatch
):
    evaluate_split = alignment._evaluate_split

    def change_after_train(context, job, models, split, images):
        evaluate_split(context, job, models, split, images)
        if split == "train":
            put("ce", "nscl", 2)

    with monkeypatch.context() as patch:
        patch.setattr(alignment, "_evaluate_split", change_after_train)
        call(*EVAL, "--epochs", "2", "--compare", "nscl")
    again = call("eval-alignment", "out", "--epochs", "2", "--compare", "nscl", "--json")
    assert again.stderr == warning("nscl 2")
    assert json.loads(again.stdout)["evaluated"] == 2


def test_snapshots_that_are_gone_keep_their_rows(call, theirs):
    call(*EVAL, "--split", "test")
    before = cka_of("test", "CE_CKA")
    shutil.rmtree(THERE / "ce")
    put("dcl", "nscl", 2)
    assert warning("nscl 2") in call("eval-alignment", "out", "--split", "test").stderr
    assert cka_of("test", "CE_CKA") == before
    assert cka_of("test")[2] < 1


# --- adopting again


def test_a_known_first_snapshot_that_is_another_now_is_an_error(call, theirs):
    call(*GAP)
    adopted = out().manifest_file.read_bytes()
    put("nscl", "nscl", 0)
    ended = call(*EVAL, "--split", "test")
    assert (ended.code, ended.stdout) == (1, "")
    path = THERE.absolute() / "nscl" / "snapshot_0.pth"
    assert ended.stderr.startswith(
        f"error: {path}: is not the snapshot that out was adopted with (SHA-256 "
    )
    assert ended.stderr.endswith(" there); choose another --output\n")
    assert not out().config_file.exists()
    assert out().manifest_file.read_bytes() == adopted


def test_a_first_snapshot_that_was_evaluated_is_looked_at_again(call, theirs):
    call(*EVAL, "--split", "test")
    path = THERE / "nscl" / "snapshot_0.pth"
    os.utime(path, ns=(1, 1))
    adopted = Manifest.read(out().manifest_file)
    assert call("eval-alignment", "out", "--split", "test").code == 0, "the same weights"
    again = Manifest.read(out().manifest_file)
    assert again == adopted.model_copy(update={"updated_at": again.updated_at})
    put("nscl", "nscl", 0)
    for words in (EVAL, ["eval-alignment", "out"], ["weight-gap", "out"]):
        ended = call(*words)
        assert ended.code == 1
        assert "snapshot_0.pth: is not the snapshot that out was adopted with" in ended.stderr


def test_other_names_of_the_folder_adopt_nothing_anew(call, theirs):
    call(*GAP)
    before = {path: path.read_bytes() for path in (out().manifest_file, out().pointer_file)}
    Path("link").symlink_to(THERE)
    Path("beside").mkdir()
    for name in ("link", "beside/../theirs"):
        assert call("weight-gap", "--checkpoints", name, "--output", "out").code == 0
        assert {path: path.read_bytes() for path in before} == before


def test_objectives_that_come_later_add_their_digest_and_the_rest_stays(call, theirs, tmp_path):
    (THERE / "ce").rename(tmp_path / "aside")
    call(*GAP)
    adopted = Manifest.read(out().manifest_file)
    early = adopted.model_copy(update={"started_at": "2025-01-02T03:04:05+00:00"})
    early.write(out().manifest_file)
    (tmp_path / "aside").rename(THERE / "ce")
    (THERE / "scl" / "snapshot_0.pth").unlink()
    call(*GAP)
    after = Manifest.read(out().manifest_file)
    assert after.started_at == early.started_at
    digest = adopted.initial_weights["cl"]
    assert after.initial_weights == dict.fromkeys(("cl", "nscl", "scl", "ce"), digest)


# --- another config


def test_until_something_was_computed_with_it_another_config_replaces_it(call, theirs):
    failed = call(*EVAL, "dataset={name: cifar10, path: nowhere}", "--split", "test")
    assert failed.code == 2
    assert "dataset.download=true" in failed.stderr
    assert out().config.dataset.name == "cifar10"
    assert call("weight-gap", "out").code == 0
    ended = call(*EVAL, "--split", "test", "seed=3")
    assert (ended.code, ended.stderr) == (0, "")
    assert (out().config.dataset.name, out().config.seed) == ("digits", 3)
    assert Path("out/cl_vs_ce.csv").is_file()
    refused = call(*EVAL, "--split", "test")
    assert (refused.code, refused.stderr) == (
        2, "error: --output: out has another config (seed is 0 here and 3 there); choose another\n"
    )  # fmt: skip


def test_features_that_were_kept_hold_their_config(call, theirs):
    call(*EVAL, "--split", "test", "--epochs", "2", "--keep-features")
    shutil.rmtree(out().alignment)
    refused = call(*EVAL, "seed=3")
    assert refused.code == 2
    assert "out has another config (seed is 3 here and 0 there)" in refused.stderr
