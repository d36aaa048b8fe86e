"""Studies of every family of encoders through the command line."""

import json
import subprocess
import sys

import pytest

from alignctl.runs import RunDirectory
from alignctl.runs.table_files import read_parquet

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

SMALL = [
    "dataset.classes=4", "dataset.images_per_class=16", "projector.hidden_dim=16",
    "projector.output_dim=8", "objectives=[cl, nscl]", "training.epochs=1",
    "training.batch_size=16", "training.schedule.warmup_epochs=0", "checkpoint_epochs=[0]",
]  # fmt: skip
VIT = (
    "encoder={name: vit, image_size: 8, patch_size: 4, num_layers: 2, num_heads: 3, "
    "hidden_dim: 24, mlp_dim: 48}"
)


def call(folder, *words, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "alignctl", *map(str, words)],
        cwd=folder, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize(
    ("encoder", "representation", "precision"),
    [
        (VIT, "encoder.blocks.1.attn.qkv", "float32"),
        ("encoder={name: timm, model: test_efficientnet}", "h", "bfloat16"),
    ],
    ids=["vit", "timm"],
)
def test_a_study_of_two_processes_is_trained_verified_and_measured(
    tmp_path, photo_folder, encoder, representation, precision
):
    run = RunDirectory(tmp_path / "run")
    placed = ["placement=data", f"training.precision={precision}", "--nproc", 2]
    if encoder != VIT:  # the digits are too small for it
        photos = f"dataset={{name: image_folder, path: {photo_folder}, image_size: 32}}"
        placed += [photos, "dataset.classes=3"]
    call(tmp_path, "pretrain", *SMALL, encoder, *placed, "--run-dir", run.path)
    (verdict,) = json.loads(call(tmp_path, "verify", run.path, "--json").stdout)["runs"]
    assert {check["result"] for check in verdict["checks"]} == {"ok"}
    words = ["--representation", representation, "--split", "test", "--nproc", 1]
    call(tmp_path, "eval-alignment", run.path, *words)
    table = read_parquet(run.path / "alignment" / "alignment.parquet")
    assert set(table["representation"]) == {representation}
    initial, trained = (table[table["epoch"] == epoch]["value"] for epoch in (0, 1))
    assert initial.to_numpy() == pytest.approx(1, abs=1e-6)
    assert (trained < 1).all()


def test_images_of_another_size_are_one_line(tmp_path):
    ended = call(tmp_path, "pretrain", *SMALL, "encoder={name: vit}", "--nproc", 1, code=2)
    assert ended.stderr == "error: encoder.image_size: 32, but the images are 8x8\n"
