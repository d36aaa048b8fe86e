import copy
import functools
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignctl.config import StudyConfig
from alignctl.config.load import apply_overrides, validate_study
from alignctl.runs import Manifest, RunDirectory

# `children`, `pool`, and what runs there; started processes get our sys.path
sys.path.insert(0, str(Path(__file__).parent / "workers"))

if "PYTEST_XDIST_WORKER" in os.environ:  # others are at work on the other cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_TESTS = os.getpid()


def _refuse_limits(event: str, _: Any) -> None:
    """A limit of this process would hold for its log as well, and for all tests that follow."""
    if event == "resource.setrlimit" and os.getpid() == _TESTS:
        raise RuntimeError("limits belong into a process that a test starts")


sys.addaudithook(_refuse_limits)

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
def original() -> dict[str, Any]:
    """What a config of the paper's own code holds for CIFAR-100, as plain values."""
    return {
        "experiment_name": "simclr/cifar100",
        "method_type": "simclr",
        "supervision": "DCL",
        "dataset": {"name": "cifar100", "path": "./data/", "num_output_classes": 100},
        "training": {
            "batch_size": 1024,
            "num_epochs": 2501,
            "lr": 0.3,
            "augmentations_type": "cifar",
            "augment_both": True,
            "save_every": 200,
            "log_every": 50,
            "track_performance": True,
            "multi_gpu": False,
            "world_size": 1,
        },
        "model": {
            "encoder_type": "resnet50",
            "pretrained": False,
            "width_multiplier": 1,
            "hidden_dim": 2048,
            "projection_dim": 128,
        },
        "loss": {"temperature": 0.1},
        "evaluation": {"checkpoints_dir": "there/", "perform_rsa": True, "perform_cdnv": False},
        "linear": {"batch_size": 256, "augment_both": False, "top_lr": 3e-4},
    }


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
        size=1,
        device=torch.device("cpu"),
        threads=torch.get_num_threads(),
        events_file=tmp_path_factory.mktemp("events") / "events.jsonl",
    )
    dist.destroy_process_group()


@pytest.fixture(scope="session")
def train_alone(one_process):
    """A function of a study and a folder: the run trained there by one process."""
    from alignctl.training.trainer import TrainingJob, train

    def start(study, path):
        run = RunDirectory(path)
        train(replace(one_process, events_file=run.events_file), TrainingJob(study, path))
        return run

    return start


@pytest.fixture(scope="session")
def train_once(small_study, train_alone, tmp_path_factory):
    """A function of overrides: the run of the small study with them, trained once for all tests.

    For reading only; who changes something changes a copy.
    """

    @functools.cache
    def run_of(*overrides):
        return train_alone(small_study(*overrides), tmp_path_factory.mktemp("trained") / "run")

    return run_of


@pytest.fixture(scope="session")
def finished(train_once):
    """A run of five objectives, with weights after epochs 0, 1 and 2; for reading only."""
    return train_once()


@pytest.fixture(scope="session")
def trained(finished):
    """The same run, where it is only one that was trained."""
    return finished


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """Starts functions in several processes that are one gloo group; see `Pool.launch`."""
    from pool import Pool

    pool = Pool(tmp_path_factory.mktemp("pool"))
    yield pool
    pool.close()


@pytest.fixture
def image_folder(tmp_path):
    """Two classes of four images for training, one for testing."""
    import numpy as np
    from PIL import Image

    stream = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 1)):
        for name in ("ant", "bee"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = stream.integers(256, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory):
    """An image folder: 3 classes of 16 images for training and 4 for testing, all of own sizes."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("photos")
    stream = np.random.default_rng(0)
    kinds = (("RGB", "jpg"), ("RGB", "png"), ("L", "jpg"), ("P", "png"))
    for split, count in (("train", 16), ("test", 4)):
        for name in ("ant", "bee", "cow"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                mode, suffix = kinds[number % len(kinds)]
                coarse = Image.fromarray(stream.integers(256, size=(9, 9, 3), dtype=np.uint8))
                size = tuple(int(side) for side in stream.integers(40, 91, 2))
                coarse.resize(size).convert(mode).save(folder / f"{number}.{suffix}")
    return root


@pytest.fixture(scope="session")
def streamed_study(small_study, photo_folder):
    """A function of overrides: the small study on images of 16x16 that are not in memory."""
    dataset = f"{{name: image_folder, path: {photo_folder}, image_size: 16, in_memory: false}}"
    return lambda *overrides: small_study(f"dataset={dataset}", *overrides)


@pytest.fixture(scope="session")
def original_state():
    """A function of an objective, an encoder's and a projector's states, and a wrapper's prefix:
    MODEL_STATE as the original code names it."""
    import torch

    def rename(objective, encoder, projector, wrapper=""):
        state = {f"encoder.net.{name}": value for name, value in encoder.items()}
        state |= {f"projector.projector.{name}": value for name, value in projector.items()}
        if objective == "ce":
            state = {f"simclr_model.{name}": value for name, value in state.items()}
            width = len(projector["3.weight"])
            state |= {"classifier.weight": torch.zeros(3, width), "classifier.bias": torch.ones(3)}
        return {f"{wrapper}{name}": value for name, value in state.items()}

    return rename


@pytest.fixture(scope="session")
def save_snapshot():
    """A function of a file, MODEL_STATE and other entries: a snapshot as the original writes it."""
    import torch

    def save(path, state, **others):
        path.parent.mkdir(parents=True, exist_ok=True)
        weight = torch.nn.Parameter(torch.ones(2))
        optimizer = torch.optim.SGD([weight], lr=0.3, momentum=0.9)
        weight.sum().backward()
        optimizer.step()
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
        entries = {
            "MODEL_STATE": state,
            "EPOCHS_RUN": 1,
            "OPTIMIZER": optimizer.state_dict(),
            "SCHEDULER": scheduler.state_dict(),
        }
        torch.save({**entries, **others}, path)
        return path

    return save


@pytest.fixture(scope="session")
def original_snapshots(small_study, original_state, save_snapshot):
    """A function of a folder: snapshots of a small study, and the networks that they hold.

    The networks are by (our objective, epoch): all the same at epoch 0, others at every other.
    """
    import torch

    from alignctl.encoders import build_network
    from alignctl.encoders.torchvision_names import with_torchvision_names

    def write(folder, *overrides, epochs=(0, 1, 2), wrapper="", without=()):
        study, networks = small_study(*overrides), {}
        for place, (name, its_name) in enumerate(ORIGINAL_FOLDERS.items()):
            for epoch in epochs:
                if name in without or (name, epoch) in without:
                    continue
                network = build_network(study).eval()
                stream = torch.Generator().manual_seed(10 * place + epoch)
                for parameter in network.parameters():
                    noise = torch.randn(parameter.shape, generator=stream)
                    parameter.data += 0.1 * bool(epoch) * noise
                networks[name, epoch] = network
                encoder = with_torchvision_names(network.encoder.state_dict())
                states = encoder, network.projector.state_dict()
                state = original_state(name, *states, wrapper)
                save_snapshot(folder / its_name / f"snapshot_{epoch}.pth", state, EPOCHS_RUN=epoch)
        return networks

    return write


ORIGINAL_FOLDERS = {"cl": "dcl", "nscl": "nscl", "scl": "scl", "ce": "ce"}
