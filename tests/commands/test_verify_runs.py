import json
import shutil
import stat
from pathlib import Path

import children
import pytest
import yaml

from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.directory import checkpoint_file


@pytest.fixture
def make(call, train_once):
    """A function of a name and overrides: the finished run of one objective in `runs/`."""

    def copy(name, *overrides):
        run = RunDirectory(Path("runs") / name)
        shutil.copytree(train_once("objectives=[cl]", *overrides).path, run.path)
        return run

    return copy


def snapshot():
    return {p: p.read_bytes() if p.is_file() else None for p in Path().rglob("*")}


def document(text):
    found = json.loads(text)
    return found, {c["name"]: c["result"] for v in found["runs"] for c in v["checks"]}


def test_a_finished_run_is_verified_and_left_alone(call, make):
    make("a")
    before = snapshot()
    ended = call("verify")
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == "runs/a: all 3 checks are ok"
    assert snapshot() == before


def test_json_is_one_document_even_where_a_check_fails(call, make):
    run = make("a")
    found, results = document(call("verify", "a", "--json").stdout)
    assert found["ok"]
    assert set(results.values()) == {"ok"}
    checkpoint_file(run, "cl", 2).unlink()
    ended = call("verify", "a", "--json")
    found, results = document(ended.stdout)
    assert (ended.code, found["ok"], results["checkpoints"]) == (1, False, "damaged")
    assert ended.stderr == "error: not verified: runs/a: checkpoints (damaged)\n"


def test_a_forged_manifest_fails_in_every_place_that_was_forged(call, make):
    run = make("a")
    manifest = Manifest.read(run.manifest_file)
    manifest.updated(
        initial_weights={"cl": "00" * 32}, batches={**manifest.batches, 2: "00" * 32}
    ).write(run.manifest_file)
    ended = call("verify", "a", "--epoch", 2)
    assert ended.code == 1
    assert ended.stderr == (
        "error: not verified: runs/a: initial weights (differs), checkpoints (differs), "
        "batches and views of epoch 2 (differs)\n"
    )
    assert "epoch_0000.safetensors does not hold the initial weights" in ended.stdout


def test_a_run_from_before_digests_of_files_is_not_verified(call, make):
    run = make("a")
    values = json.loads(run.manifest_file.read_text())
    del values["checkpoints"], values["placement"]
    run.manifest_file.write_text(json.dumps({**values, "schema_version": 1}))
    ended = call("verify")
    assert ended.code == 1
    assert ended.stderr == "error: not verified: runs/a: checkpoints (not checked)\n"


def test_runs_of_other_objectives_share_weights_and_batches(call, make):
    make("a")
    make("b", "objectives=[nscl, ce]", "temperature=0.1", "training.epochs=1")
    ended = call("verify", "a", "b")
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == (
        "runs/a and runs/b: same initial weights, "
        "same batches and views in all 1 epochs that both finished"
    )
    assert "temperature 0.5 / 0.1" in ended.stdout
    assert "objectives [cl] / [nscl positive_in_denominator=True, ce]" in ended.stdout


def test_runs_of_other_seeds_or_batches_are_told_apart(call, make):
    make("a", "training.epochs=1")
    make("b", "training.epochs=1", "seed=1")
    make("c", "training.epochs=1", "training.batch_size=12")
    ended = call("verify", "a", "b", "c")
    assert ended.code == 1
    by_seed, by_batch = ended.stdout.splitlines()[-2:]
    assert by_seed == (
        "runs/a and runs/b: other initial weights, "
        "other batches and views in 1 of 1 epochs (seed 0 / 1)"
    )
    assert by_batch == (
        "runs/a and runs/c: same initial weights, "
        "other batches and views in 1 of 1 epochs (training.batch_size 16 / 12)"
    )
    assert ended.stderr == (
        "error: not verified: runs/b beside runs/a: settings (differs), initial weights (differs), "
        "batches and views (differs); "
        "runs/c beside runs/a: settings (differs), batches and views (differs)\n"
    )


def test_what_follows_from_a_damaged_run_says_so(call, make):
    make("a", "training.epochs=1")
    checkpoint_file(make("b", "training.epochs=1"), "cl", 1).unlink()
    ended = call("verify", "a", "b")
    assert ended.code == 1
    assert ended.stdout.splitlines()[-1].endswith(", by manifests that are not verified")


def test_a_run_that_may_only_be_read_is_verified(call, make):
    run = make("a", "training.epochs=1")
    for path in [*run.path.rglob("*"), run.path]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        ended = call("verify")
    finally:
        for path in [run.path, *run.path.rglob("*")]:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
    assert (ended.code, ended.stderr) == (0, "")


def test_a_dry_run_shows_the_runs_and_the_epoch(call, make):
    make("a", "training.epochs=1")
    plan = yaml.safe_load(call("verify", "a", "--dry-run").stdout)
    assert plan == {
        "runs": ["runs/a"],
        "epoch": "the first that is finished",
        "processes": 1,
        "writes": "nothing",
    }
    assert yaml.safe_load(call("verify", "--epoch", 1, "--dry-run").stdout)["epoch"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epoch", 7], "--epoch: 7 is not a finished epoch of runs/a (1 to 1)"),
        (["--epoch", 0], "--epoch: 0 is not a finished epoch of runs/a (1 to 1)"),
        (["b"], "b: not a run directory; there are a under ./runs"),
        (["a", "runs/a"], "runs/a: is named twice"),
    ],
)
def test_what_cannot_be_verified_is_wrong_usage(call, make, words, message):
    make("a", "training.epochs=1")
    ended = call("verify", *words)
    assert (ended.code, ended.stdout, ended.stderr) == (2, "", f"error: {message}\n")


def test_the_real_command_verifies_in_a_process_of_its_own(call, make):
    make("a", "training.epochs=1")
    before = snapshot()
    done = children.run(Path.cwd(), "verify", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert document(done.stdout)[0]["ok"]
    assert snapshot() == before
