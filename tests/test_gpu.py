"""What only a GPU can show; skipped where there is none."""

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from alignctl.config.load import load_study
from alignctl.config.metric_configs import USUAL_METRICS, parse_metrics
from alignctl.metrics.feature_space import InMemory
from alignctl.metrics.scoring import Question, scores
from alignctl.runs.table_files import read_parquet
from alignctl.training.cohort import build_member
from alignctl.training.data import load_training_data
from alignctl.training.fingerprint import fingerprint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PROJECTOR = ["projector.hidden_dim=32", "projector.output_dim=16"]
TINY = ["encoder.width=0.125", *PROJECTOR]
VIT = "{name: vit, image_size: 8, patch_size: 2, num_layers: 2, hidden_dim: 48, mlp_dim: 96}"
TINY_VIT = [f"encoder={VIT}", *PROJECTOR]


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it does not find every wait
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_training_steps_never_wait_for_the_device():
    study = load_study("digits", [*TINY, "training.precision=bfloat16", "objectives=[cl, nscl]"])
    device = torch.device("cuda")
    data = load_training_data(study, device)
    members = [
        build_member(study, config, num_classes=data.num_classes, device=device)
        for config in study.objectives
    ]
    batches = data.batches(0)
    first = next(batches)
    for member in members:
        member.step(first, learning_rate=0.1, clip_norm=1.0)  # lazy initialisation may wait
    with waiting_is_an_error():
        for batch in batches:
            fingerprint(batch)
            for member in members:
                member.step(batch, learning_rate=0.1, clip_norm=1.0)


@pytest.mark.parametrize("dim", [8, 300], ids=["features", "gram"])
def test_all_scores_are_those_of_the_cpu(dim: int):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, dim, generator=generator)
    y = x @ torch.randn(dim, dim, generator=generator) / dim**0.5
    question = Question(parse_metrics(USUAL_METRICS), permutations=9)
    spaces = [InMemory(x), InMemory(y)]
    found = {
        device: scores(spaces, [(0, 1)], question, names=("x", "y"), device=torch.device(device))
        for device in ("cpu", "cuda")
    }
    for ours, theirs in zip(found["cpu"][0, 1], found["cuda"][0, 1], strict=True):
        assert theirs.value == pytest.approx(ours.value, abs=1e-6), ours.metric
        assert theirs.p_value == ours.p_value
        if ours.ci_low is not None:
            assert theirs.ci_low == pytest.approx(ours.ci_low, abs=1e-6), ours.metric


def test_a_study_runs_on_the_gpu(tmp_path: Path):
    words = [*TINY, "training.epochs=2", "checkpoint_epochs=[0]"]
    for command in (["pretrain", *words], ["eval-alignment"], ["weight-gap"]):
        done = subprocess.run(
            [sys.executable, "-m", "alignctl", *command, "--json"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=170,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["run"] == "runs/digits"
    manifest = json.loads((tmp_path / "runs/digits/manifest.json").read_text())
    assert manifest["machine"]["device"] == torch.cuda.get_device_name()


@pytest.mark.parametrize("encoder", [TINY, TINY_VIT], ids=["resnet", "vit"])
def test_training_twice_gives_the_same_bytes(tmp_path: Path, encoder: list[str]):
    for name in ("one", "two"):
        words = [*encoder, "training.epochs=2", "training.precision=bfloat16", "--run-dir", name]
        done = subprocess.run(
            [sys.executable, "-m", "alignctl", "pretrain", *words],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=170,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "one" / "checkpoints").rglob("*.safetensors"))
    assert files
    for file in files:
        other = tmp_path / "two" / file.relative_to(tmp_path / "one")
        assert file.read_bytes() == other.read_bytes(), file


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("placement", ["objectives", "data", "mesh"])
def test_two_gpus_train_as_one_does(tmp_path: Path, placement: str):
    tables, manifests = [], []
    for number in (1, 2):
        words = [*TINY, "training.epochs=2", f"placement={placement}", "--nproc", str(number)]
        done = subprocess.run(
            [sys.executable, "-m", "alignctl", "pretrain", *words, "--run-dir", f"run{number}"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=170,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        tables.append(read_parquet(tmp_path / f"run{number}" / "training.parquet"))
        manifests.append(json.loads((tmp_path / f"run{number}" / "manifest.json").read_text()))
    assert manifests[0]["batches"] == manifests[1]["batches"]
    assert (tables[0]["loss"] / tables[1]["loss"] - 1).abs().max() < 1e-2
