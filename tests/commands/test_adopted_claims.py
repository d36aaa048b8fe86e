"""What report and verify say of checkpoints that another program made."""

import json
import shutil
from pathlib import Path

import torch

from alignctl.runs import Manifest, RunDirectory

EVAL = ["eval-alignment", "--config", "study.yaml", "--checkpoints", "theirs", "--output", "out"]
GAP = ["weight-gap", "--checkpoints", "theirs", "--output", "out"]
THERE = Path("theirs")


def out():
    """The run as it lies now: a RunDirectory remembers what it has read."""
    return RunDirectory(Path("out"))


def snapshot(folder=Path()):
    return {str(p): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def test_a_report_says_that_another_program_trained(call, theirs):
    call(*EVAL)
    call("weight-gap", "out")
    ended = call("report", "to", "markdown", "out")
    assert (ended.code, ended.stderr) == (0, "")
    text = (out().report / "report.md").read_text()
    assert "**Trained by another program, whose checkpoints are measured where they lie.**" in text
    assert "The snapshots of epoch 0 of cl, nscl, scl, ce hold the same weights (SHA-256 " in text
    assert "Whether they saw the same batches and views cannot be proven" in text
    assert f"| checkpoints | `{THERE.absolute()}` |" in text
    assert "is closest to CL" in ended.stdout
    for claim in ("seed", "all processes saw", "training time", "epochs are recorded"):
        assert claim not in text


def check_verify(call, results, *parts):
    ended = call("verify", "out", "--json")
    (run,) = json.loads(ended.stdout)["runs"]
    assert [check["result"] for check in run["checks"]] == results
    assert [check["name"] for check in run["checks"]] == [
        "initial weights", "checkpoints", "batches and views",
    ]  # fmt: skip
    text = " ".join(check["finding"] for check in run["checks"])
    for part in parts:
        assert part in text
    assert ended.code == 1
    assert ended.stderr.startswith("error: not verified: out: ")
    assert "batches and views (not checked)" in ended.stderr


def test_verify_checks_what_can_be_checked(call, theirs):
    call(*GAP)
    before = snapshot()
    check_verify(call, ["ok", "ok", "not checked"], "cl, nscl, scl, ce began from ",
                 "12 files fit the checksums (CRC-32) that are in them",
                 "made by another program, which kept no digests of them")  # fmt: skip
    assert snapshot() == before


def test_verify_finds_first_snapshots_that_are_not_one(call, theirs, original_snapshots):
    shutil.rmtree(THERE / "ce")
    original_snapshots(THERE, "seed=1", without=("cl", "nscl", "scl"))
    call(*EVAL, "--split", "test")
    check_verify(call, ["differs", "ok", "not checked"], "the objectives did not begin as one: cl ")
    call("report", "to", "markdown", "out")
    text = (out().report / "report.md").read_text()
    assert "The snapshots of epoch 0 of cl, nscl, scl, ce do not hold the same weights (" in text


def test_verify_finds_snapshots_that_changed_since(call, theirs, original_snapshots):
    call(*GAP)
    original_snapshots(THERE, "seed=1", epochs=(0,))
    words = "the first snapshots of cl, nscl, scl, ce are not those that were adopted"
    check_verify(call, ["differs", "ok", "not checked"], words)


def test_verify_says_which_first_snapshots_are_not_there(call, theirs):
    (THERE / "ce" / "snapshot_0.pth").unlink()
    call(*GAP)
    check_verify(call, ["not checked", "ok", "not checked"],
                 "; there is no snapshot of epoch 0 of ce")  # fmt: skip


def test_without_any_first_snapshot_nothing_is_claimed(call, theirs):
    for path in THERE.glob("*/snapshot_0.pth"):
        path.unlink()
    call(*EVAL, "--split", "test")
    assert Manifest.read(out().manifest_file).initial_weights == {}
    check_verify(
        call, ["not checked", "ok", "not checked"], "there is no snapshot of epoch 0 of cl"
    )
    call("report", "to", "markdown", "out")
    text = (out().report / "report.md").read_text()
    assert "whether all models began from the same weights is unknown" in text


def test_verify_finds_snapshots_that_changed_since_they_were_evaluated(
    call, theirs, original_snapshots
):
    call(*EVAL, "--split", "test")
    original_snapshots(THERE, "seed=1", epochs=(2,), without=("scl",))
    (THERE / "ce" / "snapshot_2.pth").unlink()
    check_verify(call, ["ok", "differs", "not checked"],
                 "in size or date not those that were evaluated: cl 2; nscl 2")  # fmt: skip
    call("eval-alignment", "out", "--split", "test")
    check_verify(call, ["ok", "ok", "not checked"])


def test_verify_finds_snapshots_that_were_cut_short(call, theirs):
    call(*GAP)
    path = THERE / "scl" / "snapshot_2.pth"
    path.write_bytes(path.read_bytes()[:-100])
    (THERE / "ce" / "snapshot_1.pth").write_bytes(b"")
    words = "scl/snapshot_2.pth is damaged (cut short); ce/snapshot_1.pth is damaged (cut short)"
    check_verify(call, ["ok", "damaged", "not checked"], words)


def test_verify_finds_damage(call, theirs):
    call(*GAP)
    path = THERE / "scl" / "snapshot_2.pth"
    path.write_bytes(path.read_bytes()[:-100])
    (THERE / "nscl" / "snapshot_0.pth").write_bytes(b"")
    for name in ("nscl", "scl"):
        other = THERE / name / "snapshot_1.pth"
        content = bytearray(other.read_bytes())
        content[len(content) // 2] ^= 1
        other.write_bytes(content)
    torch.save({"MODEL_STATE": {}}, path, _use_new_zipfile_serialization=False)
    check_verify(call, ["damaged", "damaged", "not checked"], "nscl/snapshot_1.pth is not as it",
                 "scl/snapshot_1.pth is not as it was written")  # fmt: skip


def test_files_without_checksums_are_not_checked(call, theirs):
    call(*GAP)
    path = THERE / "scl" / "snapshot_2.pth"
    torch.save(torch.load(path), path, _use_new_zipfile_serialization=False)
    check_verify(call, ["ok", "not checked", "not checked"], "1 of 12 files hold no checksums")


def test_beside_another_run_nothing_is_claimed_either(call, theirs, make_run):
    call(*EVAL, "--split", "test")
    shutil.copytree("out", "twin")
    ended = call("verify", "out", "twin", "--json")
    (pair,) = json.loads(ended.stdout)["pairs"]
    assert {check["name"]: check["result"] for check in pair["checks"]} == {
        "settings": "not checked", "initial weights": "ok", "batches and views": "not checked",
    }  # fmt: skip
    assert pair["conclusion"].startswith(
        "same initial weights, batches and views that cannot be compared ("
    )


def test_an_epoch_of_batches_cannot_be_asked_for(call, theirs):
    call(*GAP)
    ended = call("verify", "out", "--epoch", 1)
    assert (ended.code, ended.stderr) == (
        2, "error: --epoch: 1 is not a finished epoch of out (none)\n",
    )  # fmt: skip
