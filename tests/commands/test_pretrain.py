import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignctl.commands import pretrain
from alignctl.engine.context import WorkerContext
from alignctl.errors import ConfigError, PreemptedError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.directory import saved_epochs
from alignctl.runs.lock import run_lock
from alignctl.runs.states import newest_state


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
        (["dataset.classes=1"], 2, "there is one class only, '0'; cl and dcl need none"),
        (["dataset.classes=[3]"], 2, "there is one class only, '3'; cl and dcl need none"),
        (["dataset.classes=11"], 2, "dataset.classes: 11 is more than the 10"),
        (["dataset.images_per_class=1000"], 2, "dataset.images_per_class: 1000 is more than"),
        (["--run-dir", "file/run"], 1, "file/run: cannot be written: Not a directory"),
        (["--run-dir", "/proc/run"], 1, "/proc/run: cannot be written"),
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
    assert newest_state(run).point.step == 0
    assert not [path for path in run.path.rglob("*") if path.name.endswith(".partial")]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (PreemptedError(), 75)])
def test_an_interrupted_run_is_marked_and_goes_on(call, short, monkeypatch, error, code):
    def end(*_args, **_kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("alignctl.training.trainer._train_steps", end)
        ended = call("pretrain", *short)
    assert ended.code == code
    run = RunDirectory(Path("runs/digits"))
    assert Manifest.read(run.manifest_file).status == "interrupted"
    assert call("pretrain", "--resume").code == 0
    assert Manifest.read(run.manifest_file).status == "finished"
    assert saved_epochs(run, "nscl") == [0, 1]


def test_a_run_asked_to_stop_says_how_it_goes_on(call, short, monkeypatch):
    class StopBefore2(WorkerContext):
        def stops_before(self, step):
            return step >= 2

    with monkeypatch.context() as patch:
        patch.setattr(WorkerContext, "stops_before", StopBefore2.stops_before)
        ended = call("pretrain", *short)
    assert ended.code == 75
    assert ended.stderr == (
        "error: runs/digits: stopped as asked and saved, with 0 of 1 epochs done; "
        "go on with `alignctl pretrain --resume --run-dir runs/digits`\n"
    )
    run = RunDirectory(Path("runs/digits"))
    assert Manifest.read(run.manifest_file).status == "interrupted"
    assert newest_state(run).point.step == 2
    resumed = call("pretrain", "--resume", "--run-dir", "runs/digits")
    assert resumed.code == 0
    events = [json.loads(line) for line in run.events_file.read_text().splitlines()]
    starts = [event["finished_steps"] for event in events if event["event"] == "start"]
    assert starts == [0, 2]
    assert Manifest.read(run.manifest_file).status == "finished"


def test_a_run_that_another_process_works_on_is_refused(call, short):
    with run_lock(Path("runs/digits"), "pretrain"):
        ended = call("pretrain", *short, "--run-dir", "runs/digits")
    assert ended.code == 1
    assert "runs/digits: in use by another `alignctl pretrain` (process " in ended.stderr
    assert not Path("runs/digits").exists()


def test_a_run_that_was_begun_after_it_was_planned_is_not_touched(make_study, make_run, tmp_path):
    plan = pretrain.plan_study(make_study(), run=tmp_path / "run", nproc="1", resume=False)
    other = make_run(tmp_path / "run", status="running")
    before = other.manifest_file.read_bytes()
    with pytest.raises(ConfigError, match="holds a run already"):
        pretrain.run(plan)
    assert other.manifest_file.read_bytes() == before


def test_each_start_takes_the_next_free_place(call, short):
    for name in ("digits", "digits-2", "digits-3"):
        result = json.loads(call("pretrain", *short, "--json").stdout)
        assert result["run"] == f"runs/{name}"
    digests = {json.loads(call("pretrain", *short, "--json").stdout)["initial_weights"]}
    assert digests == {result["initial_weights"]}
