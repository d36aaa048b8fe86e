"""One finished run, damaged in every way that a check is to find."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import load_weights, save_weights
from alignctl.runs.directory import checkpoint_file
from alignctl.verify.trained_run import (
    TrainedRun,
    check_batches,
    check_checkpoints,
    check_initial_weights,
)
from alignctl.verify.verification import VerificationJob, verify

CPU = torch.device("cpu")


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run, to be damaged."""
    return RunDirectory(shutil.copytree(finished.path, tmp_path / "run"))


@pytest.fixture
def manifest(run):
    return Manifest.read(run.manifest_file)


def files_in(run):
    return {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}


def test_a_run_as_it_was_made_passes_every_check_and_is_left_alone(run, one_process, tmp_path):
    before = files_in(run)
    context = replace(one_process, events_file=tmp_path / "events.jsonl")
    (checks,) = verify(context, VerificationJob((TrainedRun(run),)))
    assert [(check.name, check.result) for check in checks] == [
        ("initial weights", "ok"), ("checkpoints", "ok"), ("batches and views of epoch 1", "ok"),
    ]  # fmt: skip
    assert files_in(run) == before


# --- initial weights


def test_objectives_that_began_apart_are_named(run, manifest):
    weights = {**manifest.initial_weights, "ce": "00" * 32}
    found = check_initial_weights(run.config, manifest.updated(initial_weights=weights))
    assert found.result == "differs"
    assert "cl and dcl and nscl and scl from " in found.finding
    assert "ce from 000000000000" in found.finding


def test_weights_that_config_and_seed_do_not_give_differ(run, manifest):
    weights = dict.fromkeys(manifest.initial_weights, "00" * 32)
    changed = manifest.updated(initial_weights=weights)
    found = check_initial_weights(run.config, changed)
    assert found.result == "differs"
    assert found.finding.endswith("the manifest says 000000000000")
    old = changed.updated(versions={**manifest.versions, "torch": "1.0.0"})
    finding = check_initial_weights(run.config, old).finding
    assert f"; the run was made with torch 1.0.0 ({torch.__version__.partition('+')[0]}" in finding


def test_a_seed_changed_in_the_config_is_found_by_weights_and_batches(manifest, small_study):
    other = small_study("seed=1")
    assert check_initial_weights(other, manifest).result == "differs"
    assert check_batches(other, manifest, epoch=None, device=CPU).result == "differs"


def test_a_manifest_of_other_objectives_differs(run, manifest):
    weights = {"cl": manifest.initial_weights["cl"]}
    found = check_initial_weights(run.config, manifest.updated(initial_weights=weights))
    assert found.result == "differs"
    assert found.finding.startswith("the manifest has digests of cl, the config the objectives cl,")


# --- checkpoints


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


def remove(path):
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip_a_bit, "is not the file that was written"),
        (cut_off, "cannot be read (cut off?)"),
        (remove, "is missing"),
    ],
)
def test_a_damaged_file_of_weights_is_named(run, manifest, damage, words):
    damage(checkpoint_file(run, "nscl", 1))
    found = check_checkpoints(run, manifest)
    assert found.result == "damaged"
    assert found.finding == f"checkpoints/nscl/epoch_0001.safetensors {words}"


def test_many_damaged_files_are_counted(run, manifest):
    shutil.rmtree(run.checkpoints / "cl")
    shutil.rmtree(run.checkpoints / "ce")
    found = check_checkpoints(run, manifest)
    assert found.result == "damaged"
    assert found.finding.endswith("; 3 more")


def test_other_weights_in_the_place_of_the_initial_ones_differ(run, manifest):
    path = checkpoint_file(run, "scl", 0)
    sha256 = save_weights(path, {k: v + 1 for k, v in load_weights(path).items()})
    forged = {**manifest.checkpoints, 0: {**manifest.checkpoints[0], "scl": sha256}}
    found = check_checkpoints(run, manifest.updated(checkpoints=forged))
    assert found.result == "differs"
    words = "does not hold the initial weights of the manifest"
    assert found.finding == f"checkpoints/scl/epoch_0000.safetensors {words}"


def test_files_without_digests_are_not_checked_but_read(run, manifest):
    old = manifest.model_copy(update={"schema_version": 1, "checkpoints": {}})
    found = check_checkpoints(run, old)
    assert found.result == "not checked"
    assert found.finding.startswith("15 of 15 files were made before digests were kept")
    cut_off(checkpoint_file(run, "ce", 2))
    assert check_checkpoints(run, old).result == "damaged"


def test_a_run_without_weights_has_none_to_check(run, manifest):
    study = run.config.model_copy(update={"checkpoint_epochs": ()})
    run.write_config(study)
    early = manifest.updated(finished_epochs=0, checkpoints={})
    found = check_checkpoints(RunDirectory(run.path), early)
    assert (found.result, found.finding) == ("not checked", "no weights are saved yet")


# --- batches and views


@pytest.mark.parametrize("epoch", [1, 2])
def test_any_finished_epoch_can_be_drawn_again(run, manifest, epoch):
    found = check_batches(run.config, manifest, epoch=epoch, device=CPU)
    assert (found.name, found.result) == (f"batches and views of epoch {epoch}", "ok")


def test_other_batches_differ_unless_a_gpu_that_is_not_here_made_them(run, manifest):
    forged = manifest.updated(batches={**manifest.batches, 1: "00" * 32})
    found = check_batches(run.config, forged, epoch=None, device=CPU)
    assert found.result == "differs"
    assert found.finding.endswith("the manifest says 000000000000")
    on_gpu = forged.updated(machine={**manifest.machine, "device": "NVIDIA H100"})
    found = check_batches(run.config, on_gpu, epoch=None, device=CPU)
    assert found.result == "not checked"
    assert found.finding.endswith("made on NVIDIA H100, and a CPU may round differently")
    assert check_batches(run.config, forged, epoch=2, device=CPU).result == "ok"


def test_another_number_of_images_differs(run, manifest):
    found = check_batches(run.config, manifest.updated(num_train_images=47), epoch=None, device=CPU)
    assert (found.result, found.finding) == ("differs", "48 training images here, 47 then")


def test_a_run_before_its_first_epoch_is_not_checked(run, manifest):
    found = check_batches(run.config, manifest.updated(batches={}), epoch=None, device=CPU)
    assert (found.result, found.finding) == ("not checked", "no epoch is finished yet")


def test_a_changed_image_is_found_and_missing_ones_are_no_crash(
    small_study, train_alone, tmp_path, image_folder
):
    study = small_study(
        f"dataset={{name: image_folder, path: {image_folder}}}", "objectives=[cl]",
        "training.batch_size=4", "training.epochs=1",
    )  # fmt: skip
    manifest = Manifest.read(train_alone(study, tmp_path / "run").manifest_file)
    assert check_batches(study, manifest, epoch=None, device=CPU).result == "ok"
    path = image_folder / "train" / "bee" / "2.png"
    pixels = np.array(Image.open(path))
    pixels ^= 128
    Image.fromarray(pixels).save(path)
    assert check_batches(study, manifest, epoch=None, device=CPU).result == "differs"
    shutil.rmtree(image_folder / "train")
    found = check_batches(study, manifest, epoch=None, device=CPU)
    assert found.result == "not checked"
    assert "has no folder train/" in found.finding


def test_nothing_is_downloaded(manifest, small_study, tmp_path):
    study = small_study(f"dataset={{name: cifar10, path: {tmp_path}/none, download: true}}")
    found = check_batches(study, manifest, epoch=None, device=CPU)
    assert found.result == "not checked"
    assert found.finding.startswith("dataset.path: no complete cifar10 in ")
    assert not (tmp_path / "none").exists()
