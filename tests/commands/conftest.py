import copy
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from alignctl.cli.app import main
from alignctl.config.load import to_yaml

NETWORK = ["encoder.width=0.0625", "projector.hidden_dim=16", "projector.output_dim=8"]
TRAINING = ["training.batch_size=16", "training.schedule.warmup_epochs=0", "training.epochs=1"]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def short():
    """Overrides that make digits a study of a blink."""
    data = ["dataset.classes=4", "dataset.images_per_class=16", "objectives=[cl, nscl]"]
    return [*data, *NETWORK, *TRAINING]


@pytest.fixture
def call(monkeypatch, capsys, tmp_path, one_process):
    """A function of the words after `alignctl`: the command, with its one worker in this process.

    It runs in an empty folder of its own.
    """

    def launch(worker, payload, *, plan, events_file, listener, **_):
        assert plan.num_processes >= 1
        return [worker(replace(one_process, events_file=events_file.absolute()), payload)]

    def invoke(*words):
        monkeypatch.setattr(sys, "argv", ["alignctl", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ended(ended.value.code or 0, captured.out, captured.err)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("alignctl.engine.launch.launch", launch)
    return invoke


@pytest.fixture(scope="session")
def prepared(original_snapshots, small_study, tmp_path_factory):
    """A folder of snapshots, and the networks that lie in it, by objective and epoch."""
    folder = tmp_path_factory.mktemp("prepared") / "theirs"
    return folder, original_snapshots(folder, "objectives=[cl, nscl, scl, ce]", wrapper="module.")


@pytest.fixture
def theirs(call, prepared, small_study):
    """The study of study.yaml, beside the snapshots in theirs/."""
    shutil.copytree(prepared[0], "theirs")
    made = small_study("objectives=[cl, nscl, scl, ce]")
    Path("study.yaml").write_text(to_yaml(made))
    return made


@pytest.fixture(scope="session")
def features(prepared, small_study):
    """A function of a split, an objective and an epoch: h of all images, in float64."""
    import torch

    from alignctl.datasets import load_images
    from alignctl.views.augmentations import normalise

    def compute(split, name, epoch):
        study = small_study()
        images = torch.from_numpy(load_images(study.dataset, split).images)
        pixels = normalise(images, study.augmentation).double()
        with torch.no_grad():
            return copy.deepcopy(prepared[1][name, epoch].encoder).double()(pixels)

    return compute
