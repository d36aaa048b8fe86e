"""Folders of images as people have them, through the real commands."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.table_files import read_parquet

STUDY = [
    "encoder.width=0.0625", "projector.hidden_dim=16", "projector.output_dim=8",
    "training.epochs=1", "training.batch_size=8", "training.schedule.warmup_epochs=0",
    "dataset.name=image_folder",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """16 images without labels of 16 bits, and a file that is none, in train/; nothing else."""
    images = tmp_path / "images"
    (images / "train").mkdir(parents=True)
    stream = np.random.default_rng(0)
    for number in range(16):
        pixels = stream.integers(65536, size=(8, 8), dtype=np.uint16)
        Image.fromarray(pixels).save(images / f"train/{number:02}.png")
    (images / "train/notes.txt").touch()
    return images


def notices(run):
    """What was told of the images, by all commands so far."""
    events = map(json.loads, run.events_file.read_text().splitlines())
    return [event["text"] for event in events if event["event"] == "notice"]


def told(folder, split, num_images, first="00"):
    return [
        f"left out of {folder}/train: 1 file with no image's suffix (1 .txt)",
        f"among the {num_images} {split} images: {num_images} with more than 8 bits per channel, "
        f"scaled to 8 ({folder}/train/{first}.png)",
    ]


def test_cl_and_dcl_go_from_images_without_labels_to_a_report(call, folder):
    run, study = RunDirectory(Path("runs/mine")), [*STUDY, f"dataset.path={folder}"]
    done = call("pretrain", "digits", *study, "objectives=[cl, dcl]", "--run-dir", run.path)
    assert (done.code, done.stderr) == (0, "")
    missing = f"dataset.path: '{folder}' has no folder test/ or val/ "
    *before, last = notices(run)
    assert before == told(folder, "train", 16)
    assert last.startswith(f"evaluation will be on train only: {missing}")
    manifest = Manifest.read(run.manifest_file)
    assert (manifest.num_classes, manifest.num_train_images) == (1, 16)

    done = call("eval-alignment", "mine")
    assert done.code == 0
    assert done.stderr.startswith(f"warning: evaluating on train only: {missing}")
    assert notices(run)[3:] == told(folder, "train", 16)  # each command once
    table = read_parquet(run.alignment_table)
    assert set(table["split"]) == {"train"}
    assert set(table["num_images"]) == {16}

    done = call("eval-alignment", "mine", "--split", "test")
    assert done.code == 2
    assert done.stderr.startswith(f"error: --split test: {missing}")
    done = call("eval-alignment", "mine", "--split", "train")
    assert (done.code, done.stderr) == (0, "")

    assert call("weight-gap", "mine").code == 0
    assert call("verify", "mine").code == 0
    done = call("report", "to", "markdown", "mine")
    assert (done.code, done.stderr) == (0, "")
    assert "16 train images" in (run.report / "report.md").read_text()


def test_objectives_that_need_labels_say_so(call, folder):
    study = [*STUDY, f"dataset.path={folder}", "objectives=[cl, nscl, ce]"]
    done = call("pretrain", "digits", *study)
    assert done.code == 2
    assert done.stderr == (
        "error: objectives: nscl, ce need labels of at least two classes, and the training images "
        "have no labels; cl and dcl need none\n"
    )


def test_a_sweep_with_a_part_set_aside_tells_of_streamed_images(call, folder):
    study = [*STUDY, f"dataset.path={folder}", "objectives=[cl, dcl]", "dataset.image_size=8"]
    study += ["dataset.in_memory=false", "dataset.workers=0", "dataset.test_fraction=0.25"]
    done = call("sweep", "temperature", "digits", *study, "--values", "0.5", "--run-dir", "s")
    assert done.code == 0
    run = RunDirectory(Path("s/temperature=0.5"))
    table = read_parquet(run.alignment_table)
    counts = table.groupby("split")["num_images"].unique().map(list).to_dict()
    assert counts == {"train": [12], "test": [4]}
    train, test = told(folder, "train", 12), told(folder, "test", 4, first="02")
    assert notices(run) == [*train, test[1], *test, train[1]]  # each command every line once


def test_unreadable_images_of_both_splits_are_told_in_one_error(call, folder):
    (folder / "train/03.png").write_bytes(b"no image")
    (folder / "test").mkdir()
    for name in ("00.png", "01.png"):
        (folder / "test" / name).write_bytes(b"no image")
    study = [*STUDY, f"dataset.path={folder}", "objectives=[cl]"]
    done = call("pretrain", "digits", *study, "--run-dir", "mine")
    assert done.code == 1
    assert done.stderr.splitlines() == [
        f"error: {folder}/train/03.png: not a readable image: no known format",
        "2 of 2 images cannot be read:",
        f"{folder}/test/00.png: not a readable image: no known format",
        f"{folder}/test/01.png: not a readable image: no known format",
    ]


def test_a_dry_run_finds_that_labels_are_missing(call, folder):
    done = call("pretrain", "digits", *STUDY, f"dataset.path={folder}", "--dry-run")
    assert done.code == 2
    assert done.stderr.startswith("error: objectives: nscl, scl, ce need labels of at least two")
