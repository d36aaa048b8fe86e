import copy
from pathlib import Path
from typing import Any

import pytest

from alignctl.config import StudyConfig
from alignctl.config.load import apply_overrides, validate_study
from alignctl.runs import Manifest, RunDirectory

STUDY: dict[str, Any] = {
    "name": "tiny",
    "dataset": {"name": "digits"},
    "encoder": {"name": "resnet18", "width": 0.25},
    "objectives": ["cl", "nscl", "scl", "ce"],
    "temperature": 0.5,
    "training": {
        "epochs": 10,
        "batch_size": 64,
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
    },
}


@pytest.fixture
def values() -> dict[str, Any]:
    """The smallest valid study, as plain values."""
    return copy.deepcopy(STUDY)


@pytest.fixture
def make_study():
    """A function of changed keys: the smallest valid study with those changes."""

    def make(**changes: Any) -> StudyConfig:
        return StudyConfig.model_validate({**STUDY, **changes})

    return make


@pytest.fixture
def make_manifest():
    """A function of changed fields: the manifest of a finished run."""

    def make(**changes: Any) -> Manifest:
        fields = {
            "name": "tiny",
            "status": "finished",
            "started_at": "2025-01-02T03:04:05+00:00",
            "updated_at": "2025-01-02T03:05:05+00:00",
            "seed": 0,
            "versions": {"python": "3.12.1", "torch": "2.9.0"},
            "machine": {"cores": "2", "device": "cpu"},
            "git_commit": None,
            "num_processes": 2,
            "threads_per_process": 1,
            "num_train_images": 1437,
            "num_classes": 10,
            "initial_weights": dict.fromkeys(["cl", "nscl", "scl", "ce"], "ab" * 32),
            "batches": {1: "cd" * 32},
            "finished_epochs": 10,
            "training_s": 12.3,
        }
        return Manifest.model_validate({**fields, **changes})

    return make


@pytest.fixture
def make_run(make_study, make_manifest):
    """A function of a folder: a finished run there, of which only config and manifest exist."""

    def make(path: Path, study: StudyConfig | None = None, **manifest: Any) -> RunDirectory:
        run = RunDirectory(path)
        run.write_config(study or make_study())
        make_manifest(**manifest).write(run.manifest_file)
        return run

    return make


@pytest.fixture(scope="session")
def small_study():
    """A function of overrides such as "seed=1": 48 digits and five small networks, 3 steps each."""
    values = {
        **STUDY,
        "name": "small",
        "dataset": {"name": "digits", "classes": 3, "images_per_class": 16},
        "encoder": {"name": "resnet18", "width": 0.0625},
        "projector": {"hidden_dim": 16, "output_dim": 8},
        "objectives": ["cl", "dcl", "nscl", "scl", "ce"],
        "training": {
            **STUDY["training"],
            "epochs": 2,
            "batch_size": 16,
            "schedule": {"warmup_epochs": 0},
        },
        "checkpoint_epochs": [0, 1],
    }
    return lambda *overrides: validate_study(apply_overrides(values, overrides), "small study")


@pytest.fixture(scope="session")
def one_process(tmp_path_factory):
    """The context of a worker that is alone, in this very process."""
    import torch
    import torch.distributed as dist

    from alignctl.engine.context import WorkerContext

    torch.set_num_threads(1)  # the networks are too small to gain from more
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield WorkerContext(
        rank=0,
        world_size=1,
        device=torch.device("cpu"),
        threads=torch.get_num_threads(),
        events_file=tmp_path_factory.mktemp("events") / "events.jsonl",
    )
    dist.destroy_process_group()
