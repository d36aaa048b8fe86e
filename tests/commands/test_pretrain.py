import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import resumable_epoch
from alignctl.runs.directory import saved_epochs


@pytest.fixture
def images():
    """Two classes of four images each for training and one each for testing; one is damaged."""
    stream = np.random.default_rng(0)
    folder = Path("images")
    for split, count in (("train", 4), ("test", 1)):
        for name in ("ant", "bee"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = stream.integers(256, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    damaged = folder / "train" / "bee" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:60])


def images_in(path):
    return f"dataset={{name: image_folder, path: {path}}}"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([images_in("images")], 1, "images/train/bee/2.png: not a readable image"),
        ([images_in("images/test")], 2, "images/test' has no folder train/"),
        ([images_in("missing")], 2, "there is no folder"),
        (
            ["training.batch_size=65"], 2,
            "training.batch_size: 65 images, but the train split has only 64",
        ),
        (["dataset.classes=1"], 2, "dataset.classes: one class only, '0'"),
        (["dataset.classes=[3]"], 2, "dataset.classes: one class only, '3'"),
        (["dataset.classes=11"], 2, "dataset.classes: 11 is more than the 10"),
        (["dataset.images_per_class=1000"], 2, "dataset.images_per_class: 1000 is more than"),
        (["--run-dir", "file/run"], 1, "file/run/config.yaml: cannot be written: Not a directory"),
        (["--run-dir", "/proc/run"], 1, "/proc/run/config.yaml: cannot be written"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_one_line_and_writes_nothing(
    call, short, images, words, code, message
):
    Path("file").touch()
    before = sorted(Path().rglob("*"))
    ended = call("pretrain", *short, *words)
    assert ended.code == code
    assert ended.stderr.startswith("error: ")
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
    assert sorted(Path().rglob("*")) == before


def test_a_failed_run_says_why_and_keeps_no_weights_of_the_failing_epoch(call, short):
    absurd = ["training.optimizer.learning_rate=1e30", "training.clip_norm=null"]
    ended = call("pretrain", *short, *absurd)
    assert ended.code == 1
    reason = ended.stderr.removeprefix("error: ").removesuffix("\n")
    assert reason.startswith("objective 'cl': the loss is nan at epoch 1, step 2; ")
    run = RunDirectory(Path("runs/digits"))
    manifest = Manifest.read(run.manifest_file)
    assert (manifest.status, manifest.error) == ("failed", reason)
    assert manifest.finished_epochs == 0
    assert saved_epochs(run, "cl") == saved_epochs(run, "nscl") == [0]
    assert resumable_epoch(run, ("cl", "nscl"), at_most=1) == 0
    assert not [path for path in run.path.rglob("*") if path.name.endswith(".partial")]


@pytest.mark.parametrize(
    ("signal", "code", "status"),
    [(KeyboardInterrupt(), 130, "interrupted"), (SystemExit(143), 143, "interrupted")],
)
def test_a_run_ended_by_a_signal_is_marked_as_interrupted(
    call, short, monkeypatch, signal, code, status
):
    def end(*_args, **_kwargs):
        raise signal

    with monkeypatch.context() as patch:
        patch.setattr("alignctl.training.worker._train_epoch", end)
        ended = call("pretrain", *short)
    assert ended.code == code
    run = RunDirectory(Path("runs/digits"))
    assert Manifest.read(run.manifest_file).status == status
    assert call("pretrain", "--resume").code == 0
    assert Manifest.read(run.manifest_file).status == "finished"
    assert saved_epochs(run, "nscl") == [0, 1]


def test_each_start_takes_the_next_free_place(call, short):
    for name in ("digits", "digits-2", "digits-3"):
        result = json.loads(call("pretrain", *short, "--json").stdout)
        assert result["run"] == f"runs/{name}"
    digests = {json.loads(call("pretrain", *short, "--json").stdout)["initial_weights"]}
    assert digests == {result["initial_weights"]}
