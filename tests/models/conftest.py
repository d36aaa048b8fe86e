from dataclasses import replace

import pytest

from alignctl.runs import RunDirectory
from alignctl.training.worker import TrainingJob, train


@pytest.fixture(scope="session")
def train_run(small_study, one_process, tmp_path_factory):
    """A function of overrides: the run of a small study, trained here."""

    def start(*overrides):
        run = RunDirectory(tmp_path_factory.mktemp("runs") / "run")
        context = replace(one_process, events_file=run.events_file)
        train(context, TrainingJob(small_study(*overrides), run.path))
        return run

    return start


@pytest.fixture(scope="session")
def trained(train_run):
    """Five objectives, weights after epochs 0, 1 and 2; for reading only."""
    return train_run()
