"""Studies on a folder that the Hugging Face library reads, through the real commands."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.table_files import read_parquet
from alignctl.training import trainer

STUDY = [
    "encoder.width=0.0625", "projector.hidden_dim=16", "projector.output_dim=8",
    "objectives=[cl, nscl]", "training.epochs=1", "training.batch_size=16",
    "training.schedule.warmup_epochs=0", "dataset.image_size=16",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """48 images of three classes for training, 24 for testing, of many sizes."""
    stream = np.random.default_rng(0)
    (tmp_path / "images/data").mkdir(parents=True)
    for split, count in (("train", 48), ("test", 24)):
        files = []
        for _ in range(count):
            height, width = stream.integers(16, 30, size=2)
            file = io.BytesIO()
            pixels = stream.integers(256, size=(height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file, "JPEG")
            files.append(file.getvalue())
        labels = [index % 3 for index in range(count)]
        table = pa.table({"image": files, "label": labels})
        pq.write_table(table, tmp_path / f"images/data/{split}-00000-of-00001.parquet")
    return tmp_path / "images"


@pytest.mark.parametrize("dataset", ["mini_imagenet", "digits"])
def test_what_the_library_converts_is_loaded_in_turn(make_study, monkeypatch, dataset):
    done = []
    monkeypatch.setattr(trainer, "load_training_data", lambda *arguments: done.append("load"))
    context = SimpleNamespace(
        device=None, is_first=False, in_turn=lambda load: [done.append("turn"), load()]
    )
    study = make_study(dataset={"name": dataset})
    trainer._load_in_turn(context, trainer.TrainingJob(study, Path("run")))
    assert done == (["load"] if dataset == "digits" else ["turn", "load"])


@pytest.mark.soak
def test_two_processes_train_and_evaluate_together(tmp_path, folder):
    """For training one converts the folder and the other waits; for evaluating both start to."""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}

    def call(*words):
        return subprocess.run(
            [sys.executable, "-m", "alignctl", *map(str, words)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=170,
        )  # fmt: skip

    dataset = f"dataset={{name: huggingface, path: {folder}}}"
    trained = call("pretrain", dataset, *STUDY, "--nproc", 2)
    assert (trained.returncode, "error" in trained.stderr) == (0, False), trained.stderr
    assert "split" not in trained.stderr  # nor any of the library's own bars
    run = RunDirectory(tmp_path / "runs" / "digits")
    manifest = Manifest.read(run.manifest_file)
    assert (manifest.status, manifest.num_processes) == ("finished", 2)
    assert (manifest.num_train_images, manifest.num_classes) == (48, 3)
    assert sorted(set(read_parquet(run.training_table)["objective"])) == ["cl", "nscl"]

    shutil.rmtree(tmp_path / "home")
    evaluated = call("eval-alignment", "--nproc", 2)
    assert evaluated.returncode == 0, evaluated.stderr
    assert list((run.path / "alignment").glob("*.csv"))
