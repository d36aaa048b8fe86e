"""What cannot be done with checkpoints of the original code: one line, nothing written."""

import shutil
from pathlib import Path

import pytest
import torch

from alignctl.runs import RunDirectory
from alignctl.runs.table_files import read_parquet

EVAL = ["eval-alignment", "--config", "study.yaml", "--checkpoints", "theirs", "--output", "out"]
GAP = ["weight-gap", "--checkpoints", "theirs", "--output", "out"]
THERE = Path("theirs")


def out():
    """The run as it lies now: a RunDirectory remembers what it has read."""
    return RunDirectory(Path("out"))


def snapshot(folder=Path()):
    return {str(p): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def check_refused(call, words, message, code=2):
    before = snapshot()
    ended = call(*words)
    assert (ended.code, ended.stdout) == (code, "")
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert snapshot() == before


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]], ids=["real", "dry-run"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (EVAL[:3], "--config: goes with --checkpoints; a run has a config of its own"),
        ([EVAL[0], *EVAL[3:]], "--checkpoints: needs --config, for the network and the images to"),
        (EVAL[:5], "--checkpoints: needs --output, the folder for tables"),
        (GAP[:3], "--checkpoints: needs --output, the folder for tables"),
        ([*EVAL, "out"], "RUN and --checkpoints: choose one ('out')"),
        ([*GAP, "out"], "RUN and --checkpoints: choose one ('out')"),
        ([*GAP, "seed=1"], "'seed=1': changes need --config"),
        (["weight-gap", "a", "b"], "'b': one RUN at a time, and 'a' is one"),
        (["eval-alignment", "a", "b"], "'b': one RUN at a time, and 'a' is one"),
        ([*EVAL, "seedling=1"], "study.yaml: seedling: unknown key"),
        ([*EVAL, "--reference", "nsc"], "--reference: 'nsc' is not an objective of this run; did"),
        (
            [*EVAL, "--compare", "nsc"],
            "--compare: 'nsc' is not comparable here; did you mean 'nscl",
        ),
        ([*EVAL, "--compare", "dcl"], "--compare: 'cl' is not comparable here; did you mean"),
        ([*EVAL, "--all-pairs", "--compare", "ce"], "--all-pairs and --compare: choose one"),
        ([*GAP[:4], "theirs"], "--output: theirs lies in "),
        ([*GAP[:4], "theirs/new"], "--output: theirs/new lies in "),
        ([*GAP[:4], "study.yaml"], "--output: study.yaml is a file"),
        (
            [*GAP[:2], "nothing", *GAP[3:]],
            "nothing: no such folder; it has to hold the folders dcl",
        ),
        (
            [*GAP[:2], "theirs/dcl", *GAP[3:]],
            "theirs/dcl: holds no snapshots; expected are the fol",
        ),
        ([*GAP[:4], "thesis"], "--output: thesis is not empty and holds no run; choose another"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(call, theirs, words, message, dry_run):
    Path("thesis").mkdir()
    Path("thesis/thesis.txt").write_text("years of work")
    check_refused(call, [*words, *dry_run], message)


def test_without_the_reference_there_is_nothing_to_compare_with(call, theirs):
    shutil.rmtree(THERE / "dcl")
    folder = THERE.absolute()
    message = f"{folder}: has no snapshots of cl (folder dcl), which others are compared with; "
    check_refused(call, EVAL, f"{message}choose another --reference (nscl, scl, ce)")
    check_refused(call, GAP, message)
    ended = call(*GAP, "--reference", "nscl")
    assert ended.code == 0
    assert sorted(p.name for p in out().path.glob("*.csv")) == ["nscl_vs_ce.csv", "nscl_vs_scl.csv"]


def test_one_objective_alone_cannot_be_compared(call, theirs):
    for name in ("nscl", "scl", "ce"):
        shutil.rmtree(THERE / name)
    message = f"{THERE.absolute()}: has one objective, 'cl'; comparing takes two"
    check_refused(call, EVAL, message)
    check_refused(call, [*EVAL, "--all-pairs"], message)
    check_refused(call, GAP, message)


def test_only_objectives_that_are_not_there_cannot_be_compared(call, theirs):
    shutil.rmtree(THERE / "ce")
    message = f"--compare: no snapshots of ce in {THERE.absolute()}"
    check_refused(call, [*GAP, "--compare", "ce"], message)
    ended = call(*GAP, "--compare", "ce", "nscl")
    assert ended.stderr == (
        f"warning: {THERE.absolute()}: no snapshots of ce, whose cells stay empty\n"
        "note: out: has no config, which eval-alignment and report need; "
        "the same command with --config FILE adds it\n"
    )


def test_models_without_a_common_epoch_are_an_error(call, theirs):
    for name in ("nscl", "scl", "ce"):
        shutil.rmtree(THERE / name)
        (THERE / name).mkdir()
        shutil.copy(THERE / "dcl" / "snapshot_1.pth", THERE / name / "snapshot_7.pth")
    folder = THERE.absolute()
    ended = call(*GAP)
    assert (ended.code, ended.stderr.splitlines()[-1]) == (
        1, f"error: {folder}: no epoch has weights of both cl and nscl or scl or ce",
    )  # fmt: skip
    ended = call(*EVAL)
    assert (ended.code, ended.stderr.splitlines()[-1]) == (
        1, f"error: {folder}: no epoch has weights of both models of a pair yet",
    )  # fmt: skip


def test_a_folder_with_results_of_something_else_is_not_taken(call, theirs, make_run):
    make_run(Path("runs/own"))
    words = ["--output", "runs/own"]
    check_refused(call, [*EVAL[:-2], *words], "--output: runs/own holds a run of its own; choose")
    call(*GAP)
    shutil.copytree(THERE, "others")
    words = ["weight-gap", "--checkpoints", "others", "--output", "out"]
    here, there = Path("others").absolute(), THERE.absolute()
    message = f"--output: out is about other checkpoints ({here} here and {there} there); choose"
    check_refused(call, words, message)


def test_another_config_is_refused_with_the_first_difference(call, theirs):
    call(*EVAL, "--split", "test", "--epochs", "1")
    message = "--output: out has another config (seed is 9 here and 0 there); choose another"
    check_refused(call, [*EVAL, "seed=9"], message)
    check_refused(call, [*GAP, "--config", "study.yaml", "seed=9"], message)
    assert call(*EVAL, "objectives=[scl, cl]", "--dry-run").code == 0, "the folders say which"


def test_an_adopted_run_is_not_trained(call, theirs):
    call(*EVAL, "--split", "test", "--epochs", "1")
    message = "out: holds results of another program's checkpoints; choose another --run-dir"
    check_refused(call, ["pretrain", "study.yaml", "--run-dir", "out"], message)
    check_refused(call, ["pretrain", "--resume", "--run-dir", "out"], message)
    (out().config_file).unlink()
    check_refused(call, ["pretrain", "--resume", "--run-dir", "out"], message)


@pytest.mark.parametrize("command", ["eval-alignment", "weight-gap"])
@pytest.mark.parametrize("folder", ["theirs", "theirs/new", "link/dcl"])
def test_nothing_is_written_beside_the_snapshots_of_an_adopted_run(call, theirs, command, folder):
    call(*EVAL, "--split", "test", "--epochs", "1")
    Path("link").symlink_to(THERE)
    message = f"--output: {folder} lies in {THERE.absolute()}, which is only read"
    check_refused(call, [command, "out", "--output", folder], message)


def spoil_cut_off(original_snapshots):
    path = THERE / "nscl" / "snapshot_0.pth"
    path.write_bytes(path.read_bytes()[:-100])
    return "nscl/snapshot_0.pth: is damaged (cut short)"


def spoil_content(original_snapshots):
    torch.save({"model": {}}, THERE / "ce" / "snapshot_0.pth")
    return "ce/snapshot_0.pth: holds no MODEL_STATE (but model)"


def spoil_code(original_snapshots):
    path = THERE / "ce" / "snapshot_0.pth"
    torch.save({"MODEL_STATE": {}, "OPTIMIZER": Path("x")}, path)
    return "ce/snapshot_0.pth: holds pathlib."


def spoil_width(original_snapshots):
    shutil.rmtree(THERE)
    original_snapshots(THERE, "encoder.width=0.125")
    return "dcl/snapshot_0.pth: does not fit the run's config: size mismatch: encoder.conv1.weight"


def spoil_stem(original_snapshots):
    shutil.rmtree(THERE)
    original_snapshots(THERE, "encoder.stem=imagenet", epochs=(1, 2))
    return "by the config; its shapes ask for encoder.stem=imagenet"


def spoil_family(original_snapshots):
    shutil.rmtree(THERE)
    sizes = "image_size: 8, patch_size: 4, num_layers: 1, num_heads: 1, hidden_dim: 8, mlp_dim: 8"
    original_snapshots(THERE, f"encoder={{name: vit, {sizes}}}")
    return "encoder.conv1.weight is missing; its shapes ask for encoder.name=vit encoder.image_size"


@pytest.mark.parametrize(
    "spoil",
    [spoil_cut_off, spoil_content, spoil_code, spoil_width, spoil_stem, spoil_family],
)
def test_snapshots_that_cannot_be_used_are_named_before_anything_is_written(
    call, theirs, original_snapshots, spoil
):
    check_refused(call, EVAL, spoil(original_snapshots), code=1)


def test_a_snapshot_that_cannot_be_used_is_named_wherever_it_lies(call, theirs):
    (THERE / "scl" / "snapshot_2.pth").write_bytes(b"")
    ended = call(*EVAL, "--split", "test")
    assert ended.code == 1
    (line,) = ended.stderr.splitlines()
    assert line == f"error: {THERE.absolute()}/scl/snapshot_2.pth: is damaged (cut short)"
    assert set(read_parquet(out().alignment_table)["epoch"]) == {0, 1}, (
        "what was found before is kept"
    )


def test_snapshots_that_are_gone_are_named(call, theirs):
    call(*EVAL, "--split", "test")
    shutil.rmtree(THERE)
    ended = call("eval-alignment", "out")
    assert ended.code == 2
    assert ended.stderr.startswith(
        f"error: {THERE.absolute()}: has no snapshots of cl (folder dcl)"
    )


def test_an_unknown_layer_is_refused_before_anything_is_written(call, theirs):
    message = "--representation: 'encoder.layr2' is no layer; did you mean 'encoder.layer2'?"
    check_refused(call, [*EVAL, "--representation", "encoder.layr2"], message)
