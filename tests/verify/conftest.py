from dataclasses import replace

import pytest

from alignctl.runs import RunDirectory
from alignctl.training.worker import TrainingJob, train


@pytest.fixture(scope="session")
def train_alone(one_process):
    """A function of a study and a folder: the run trained there by one process."""

    def start(study, path):
        run = RunDirectory(path)
        train(replace(one_process, events_file=run.events_file), TrainingJob(study, path))
        return run

    return start


@pytest.fixture(scope="session")
def finished(small_study, train_alone, tmp_path_factory):
    """Five objectives, two epochs."""
    return train_alone(small_study(), tmp_path_factory.mktemp("runs") / "finished")
