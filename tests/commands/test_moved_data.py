"""Runs whose data lie elsewhere than when they were started."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from alignctl.engine.context import WorkerContext
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.directory import checkpoint_file

RUN = RunDirectory(Path("runs/photos"))
RESUME = ["pretrain", "--resume", "--run-dir", RUN.path]


@pytest.fixture
def data(photo_folder, call):
    """The path of a folder of photos that may be moved."""
    return shutil.copytree(photo_folder, Path("here").absolute())


@pytest.fixture
def train(call, data, short):
    """Trains on the photos, as the words say, in RUN; returns how that ended."""
    dataset = f"dataset={{name: image_folder, path: {data}, image_size: 16}}"
    study = ["name=photos", dataset, *short[2:], "training.epochs=2"]
    return lambda *words: call("pretrain", *study, "--run-dir", RUN.path, *words)


@pytest.fixture
def stopped(train, monkeypatch):
    """RUN after two of its six steps."""
    with monkeypatch.context() as patch:
        patch.setattr(WorkerContext, "stops_before", lambda self, step: step >= 2)
        assert train().code == 75
    return RUN


def paint_one_black(folder):
    from PIL import Image

    Image.new("RGB", (50, 50)).save(folder / "train" / "ant" / "0.jpg")


def warnings_of(run):
    events = [json.loads(line) for line in run.events_file.read_text().splitlines()]
    return [event["text"] for event in events if event["event"] == "warning"]


def move(data):
    return shutil.move(data, data.with_name("there"))


def test_a_stopped_run_goes_on_where_its_data_are_now(call, train, data, stopped):
    config, started = stopped.config, stopped.config_file.stat().st_mtime_ns
    there = move(data)
    lost = call(*RESUME)
    assert lost.code == 2
    assert lost.stderr == (
        f"error: dataset.path: there is no folder '{data}'; pass dataset.path=DIR for where it "
        "lies\n"
    )
    resumed = call(*RESUME, f"dataset.path={there}")
    assert (resumed.code, resumed.stderr) == (0, "")
    values = yaml.safe_load(stopped.config_file.read_text())
    expected = config.model_dump(mode="json")
    expected["dataset"]["path"] = str(there)
    assert values == expected, "the whole study, and where its data were found last"
    assert stopped.config_file.stat().st_mtime_ns == started, "it is not the newest run by that"
    weights = [checkpoint_file(stopped, name, 2).read_bytes() for name in ("cl", "nscl")]
    shutil.copytree(there, data)
    shutil.rmtree(stopped.path)
    assert train().code == 0
    assert [checkpoint_file(RUN, name, 2).read_bytes() for name in ("cl", "nscl")] == weights


def test_the_newest_run_is_resumed_where_no_other_is_named(call, data, stopped):
    resumed = call("pretrain", "--resume", f"dataset.path={move(data)}")
    assert (resumed.code, resumed.stderr) == (0, "")
    assert Manifest.read(stopped.manifest_file).status == "finished"


def test_a_study_given_again_may_have_its_data_elsewhere(call, train, data, stopped):
    there = move(data)
    assert train("--resume", f"dataset.path={there}").code == 0
    assert RunDirectory(stopped.path).config.dataset.path == there


def test_other_data_are_refused_by_their_digest(call, data, stopped):
    there = move(data)
    paint_one_black(there)
    before = stopped.config_file.read_bytes()
    refused = call(*RESUME, f"dataset.path={there}")
    assert refused.code == 1
    assert refused.stderr == (
        f"error: {stopped.manifest_file.absolute()}: the run began with other training images or "
        f"labels than {there} holds now; dataset.path=DIR says where they lie; "
        "start a new run for these\n"
    )
    assert stopped.config_file.read_bytes() == before


def test_a_run_of_an_earlier_version_says_that_nothing_proves_its_data(call, data, stopped):
    manifest = Manifest.read(stopped.manifest_file)
    manifest.updated(training_data=None).write(stopped.manifest_file)
    resumed = call(*RESUME, f"dataset.path={move(data)}")
    assert resumed.code == 0
    (warning,) = warnings_of(stopped)
    assert warning.endswith(
        "which kept no digest of the training images; that they are the same is not checked"
    )


def test_science_of_a_resumed_run_cannot_be_changed(call, stopped):
    refused = call(*RESUME, "temperature=0.1")
    assert refused.code == 2
    assert "temperature is 0.1 here and 0.5 there (runs/photos): it decides what is" in (
        refused.stderr
    )


def test_where_no_run_is_there_overrides_are_of_the_default_study(call, short):
    assert call("pretrain", "--resume", *short).code == 0
    assert RunDirectory(Path("runs/digits")).config.training.epochs == 1


# --- measuring


@pytest.fixture
def finished(train):
    """RUN to its end."""
    assert train().code == 0
    return RUN


def test_a_finished_run_is_evaluated_and_verified_where_its_data_are_now(call, data, finished):
    before = finished.config_file.read_bytes()
    there = move(data)
    for command in ("eval-alignment", "verify"):
        lost = call(command, "photos")
        assert lost.code != 0
        assert "pass dataset.path=DIR for where it lies" in lost.stderr + lost.stdout
        found = call(command, "photos", f"dataset.path={there}")
        assert (found.code, found.stderr) == (0, "")
    assert (finished.alignment / "train_alignment.csv").is_file()
    assert finished.config_file.read_bytes() == before, "measuring changes nothing of the run"


def test_other_images_than_a_run_was_trained_on_are_not_evaluated(call, data, finished):
    there = move(data)
    paint_one_black(there)
    refused = call("eval-alignment", f"dataset.path={there}")
    assert refused.code == 1
    assert refused.stderr.startswith(f"error: {there}: not the images that ")
    assert "dataset.path=DIR says where these lie" in refused.stderr
    assert not finished.alignment_table.exists()
    assert call("verify", f"dataset.path={there}").code == 1


def test_fewer_images_or_other_classes_are_counted(call, data, finished):
    there = move(data)
    (there / "train" / "bee" / "3.png").unlink()
    refused = call("eval-alignment", f"dataset.path={there}")
    assert "(47 training images here, 48 then)" in refused.stderr
    shutil.rmtree(there / "train" / "bee")
    shutil.rmtree(there / "test" / "bee")
    refused = call("eval-alignment", f"dataset.path={there}", "--split", "test")
    assert "(2 classes here, 3 then)" in refused.stderr


def test_the_test_split_alone_proves_nothing_and_that_is_said(call, data, finished):
    there = move(data)
    found = call("eval-alignment", f"dataset.path={there}", "--split", "test")
    assert found.code == 0
    (warning,) = warnings_of(finished)
    assert warning.startswith(f"{there}: only the test split is read, of which no digest was kept;")


def test_pixels_that_another_decoder_gave_are_a_warning(call, data, finished):
    manifest = Manifest.read(finished.manifest_file)
    versions = {**manifest.versions, "pillow": "1.0"}
    manifest.updated(versions=versions, training_data="0" * 64).write(finished.manifest_file)
    found = call("eval-alignment", "--split", "train")
    assert found.code == 0
    (warning,) = warnings_of(finished)
    assert "000000000000 then), which were decoded by pillow 1.0 (" in warning


@pytest.mark.parametrize("command", ["eval-alignment", "verify"])
def test_science_of_a_measured_run_cannot_be_changed(call, finished, command):
    refused = call(command, "photos", "dataset.classes=2")
    assert refused.code == 2
    assert "dataset.classes is 2 here and None there (runs/photos)" in refused.stderr


def test_a_finished_run_needs_its_data_no_more(call, data, finished):
    move(data)
    again = call(*RESUME)
    assert (again.code, again.stderr) == (0, "")
    planned = call(*RESUME, "--dry-run")
    assert planned.code == 0
    assert "data" not in yaml.safe_load(planned.stdout)


def test_weights_alone_need_no_data(call, data, finished):
    there = move(data)
    assert call("weight-gap").code == 0
    refused = call("weight-gap", f"dataset.path={there}")
    assert refused.code == 2
    assert refused.stderr == (
        f"error: 'dataset.path={there}': only weights are read, which no setting changes\n"
    )


def test_a_run_named_like_an_override_is_a_run(call, finished):
    finished.path.rename("temperature=0.5")
    assert call("weight-gap", "temperature=0.5").code == 0
    assert call("eval-alignment", "temperature=0.5", "dataset.workers=1").code == 0


# --- sweeps


def sweep(call, data, short, *words):
    dataset = f"dataset={{name: image_folder, path: {data}, image_size: 16}}"
    words = ["name=photos", dataset, *short[2:], *words]
    return call("sweep", "temperature", *words)


def test_a_sweep_goes_on_where_its_data_are_now(call, data, short):
    assert sweep(call, data, short, "--values", "0.5").code == 0
    there = move(data)
    chosen = ["--run-dir", "runs/photos-temperature", "--values", "0.5,1.0"]
    assert sweep(call, there, short, *chosen).code == 0
    assert {p.name for p in Path("runs").iterdir()} == {"photos-temperature"}


def test_data_elsewhere_are_another_sweep_unless_its_folder_is_named(call, data, short):
    assert sweep(call, data, short, "--values", "0.5").code == 0
    assert sweep(call, move(data), short, "--values", "0.5").code == 0
    assert {p.name for p in Path("runs").iterdir()} == {
        "photos-temperature", "photos-temperature-2",
    }  # fmt: skip


def test_runs_on_other_data_are_no_sweep(call, data, short):
    assert sweep(call, data, short, "--values", "0.5").code == 0
    there = move(data)
    paint_one_black(there)
    chosen = ["--run-dir", "runs/photos-temperature", "--values", "1.0"]
    refused = sweep(call, there, short, *chosen)
    assert refused.code == 1
    assert "its training data are others than those of runs/photos-temperature/temperature=0.5" in (
        refused.stderr
    )


# --- runs of the original code


def test_an_adopted_run_is_measured_where_its_images_are_now(call, data, theirs):
    dataset = {"name": "image_folder", "path": str(data), "image_size": 16}
    study = {**theirs.model_dump(mode="json"), "dataset": dataset}
    Path("study.yaml").write_text(yaml.safe_dump(study))
    adopt = ["eval-alignment", "--config", "study.yaml", "--checkpoints", "theirs"]
    adopt += ["--output", "out", "--epochs", "2"]
    assert call(*adopt, "--split", "train").code == 0
    there = move(data)
    again = call(*adopt, "--split", "test", f"dataset.path={there}")
    assert (again.code, again.stderr) == (0, "")
    assert RunDirectory(Path("out")).config.dataset.path == there
    back = shutil.move(there, data)
    moved_back = call("eval-alignment", "out", "--epochs", "1", f"dataset.path={back}")
    assert (moved_back.code, moved_back.stderr) == (0, "")
