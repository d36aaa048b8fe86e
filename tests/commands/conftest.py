import sys
from dataclasses import dataclass, replace

import pytest

from alignctl.cli import main

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
