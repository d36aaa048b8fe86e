import json
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from alignctl.errors import ConfigError, DataError, TrainingError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import digest, load_weights
from alignctl.runs.directory import checkpoint_file, saved_epochs
from alignctl.runs.table_files import read_parquet
from alignctl.training.data import load_training_data
from alignctl.training.fingerprint import epoch_digest, fingerprint
from alignctl.training.schedule import warmup_cosine

NAMES = ("cl", "dcl", "nscl", "scl", "ce")


def manifest_of(run):
    return Manifest.read(run.manifest_file)


def training_table(run):
    return read_parquet(run.training_table)


def test_a_run_keeps_its_config_and_says_that_it_is_finished(finished, small_study):
    manifest = manifest_of(finished)
    assert finished.config == small_study()
    assert (manifest.status, manifest.error, manifest.finished_epochs) == ("finished", None, 2)
    assert (manifest.num_train_images, manifest.num_classes) == (48, 3)
    assert (manifest.name, manifest.seed, manifest.num_processes) == ("small", 0, 1)


def test_the_batches_of_every_epoch_are_recorded(finished):
    data = load_training_data(finished.config, torch.device("cpu"))
    expected = {
        epoch: epoch_digest([fingerprint(batch) for batch in data.batches(epoch - 1)])
        for epoch in (1, 2)
    }
    assert manifest_of(finished).batches == expected
    assert expected[1] != expected[2]


def test_the_training_table_has_every_step_of_every_objective(finished):
    table = training_table(finished)
    assert list(table.columns) == ["epoch", "step", "objective", "loss", "learning_rate"]
    expected = [(epoch, name, step) for epoch in (1, 2) for name in NAMES for step in (1, 2, 3)]
    assert list(zip(table["epoch"], table["objective"], table["step"], strict=True)) == expected
    assert np.isfinite(table["loss"]).all()


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_the_learning_rate_follows_the_schedule_in_its_unit(
    small_study, train_alone, tmp_path, unit
):
    study = small_study(
        "objectives=[ce]", f"training.schedule={{warmup_epochs: 1, unit: {unit}}}",
        "training.epochs=3",
    )  # fmt: skip
    table = training_table(train_alone(study, tmp_path / "run"))
    scale = 3 if unit == "step" else 1
    times = range(9) if unit == "step" else [0] * 3 + [1] * 3 + [2] * 3
    expected = [
        0.1 * warmup_cosine(time, warmup_epochs=scale, total_epochs=3 * scale) for time in times
    ]
    assert table["learning_rate"].tolist() == expected
    assert len(set(expected)) == len(set(times))


def test_the_events_tell_what_a_view_needs(finished):
    events = [json.loads(line) for line in finished.events_file.read_text().splitlines()]
    start = next(event for event in events if event["event"] == "start")
    assert (start["objectives"], start["batch_size"]) == (list(NAMES), 16)
    assert (start["epochs"], start["steps_per_epoch"], start["finished_epochs"]) == (2, 3, 0)
    epochs = [event for event in events if event["event"] == "epoch"]
    means = training_table(finished).groupby(["epoch", "objective"])["loss"].mean()
    for event, number in zip(epochs, (1, 2), strict=True):
        assert event["epoch"] == number
        assert list(event["losses"]) == list(NAMES)
        for name in NAMES:
            assert event["losses"][name] == pytest.approx(means[number, name])
    assert [e["epoch"] for e in events if e["event"] == "checkpoint"] == [0, 1, 2]


def test_training_alone_or_with_others_changes_nothing(
    finished, small_study, train_alone, tmp_path
):
    alone = train_alone(small_study("objectives=[scl]"), tmp_path / "run")
    ours, theirs = (load_weights(checkpoint_file(run, "scl", 2)) for run in (alone, finished))
    assert digest(ours) == digest(theirs)
    assert manifest_of(alone).batches == manifest_of(finished).batches


def test_a_loss_that_is_not_finite_names_objective_epoch_and_step(
    small_study, train_alone, tmp_path
):
    study = small_study(
        "objectives=[nscl]", "training.optimizer.learning_rate=1e30", "training.clip_norm=null",
        "training.schedule.warmup_epochs=0",
    )  # fmt: skip
    pattern = r"objective 'nscl': the loss is (nan|inf) at epoch 1, step 2; .*learning_rate"
    with pytest.raises(TrainingError, match=pattern):
        train_alone(study, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    assert saved_epochs(run, "nscl") == [0]
    assert manifest_of(run).finished_epochs == 0
    assert not run.training_table.exists()


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        (["training.batch_size=9"], ConfigError, "the train split has only 8"),
        (["dataset.classes=1"], ConfigError, "one class only, 'ant'"),
        (["dataset.classes=3"], ConfigError, "3 is more than the 2 there are"),
        (["dataset.path={folder}/train"], ConfigError, "has no folder train/"),
        (["dataset.path={folder}"], DataError, "bee/2.png: not a readable image"),
    ],
)
def test_data_that_cannot_serve_is_refused_before_anything_is_written(
    small_study, train_alone, tmp_path, image_folder, overrides, kind, message
):
    if kind is DataError:
        (image_folder / "train" / "bee" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    study = small_study(
        f"dataset={{name: image_folder, path: {image_folder}}}",
        "training.batch_size=4",
        *(text.format(folder=image_folder) for text in overrides),
    )
    with pytest.raises(kind) as error:
        train_alone(study, tmp_path / "run")
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def parquet_folder(tmp_path):
    """Two classes of four images for training, two images for testing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    for split, labels in (("train", [0, 1] * 4), ("test", [0, 1])):
        images = pa.array([file.getvalue()] * len(labels), pa.binary())
        table = pa.table({"image": images, "label": labels})
        pq.write_table(table, tmp_path / f"{split}-00000-of-00001.parquet")
    return tmp_path


@pytest.fixture
def started(small_study, train_alone, parquet_folder):
    """A function: CL trained on the parquet files, as they are now, in a folder named run."""
    study = small_study(
        f"dataset={{name: parquet, path: {parquet_folder}}}",
        "training.batch_size=4", "training.epochs=1", "objectives=[cl]",
    )  # fmt: skip
    return lambda: train_alone(study, parquet_folder / "run")


def test_what_evaluation_will_need_is_looked_at_before_training(started, parquet_folder):
    test = parquet_folder / "test-00000-of-00001.parquet"
    whole = test.read_bytes()
    for content, message in (
        (whole[:-9], "test-00000-of-00001.parquet: cannot be read"),
        (whole.replace(b"IHDR", b"XXXX"), "2 of 2 images cannot be read"),
    ):
        test.write_bytes(content)
        with pytest.raises(DataError, match=message):
            started()
    test.rename(parquet_folder / "test-00000-of-00002.parquet")
    with pytest.raises(ConfigError, match=r"lacks test-00001-of-00002.parquet"):
        started()
    assert not (parquet_folder / "run").exists()


def test_notices_of_both_splits_are_told_once_training_begins(started, parquet_folder):
    (parquet_folder / "test-00000-of-00001.parquet").unlink()
    run = started()
    events = [json.loads(line) for line in run.events_file.read_text().splitlines()]
    notices = [event["text"] for event in events if event["event"] == "notice"]
    assert len(notices) == 1
    assert notices[0].startswith("evaluation will be on train only: dataset.path: ")
    assert Manifest.read(run.manifest_file).status == "finished"
