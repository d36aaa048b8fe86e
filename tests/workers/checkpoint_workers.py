"""A worker for the tests of checkpoints, in a module that processes of the pool can import."""

import resource
from pathlib import Path

import torch

from alignctl.engine.context import WorkerContext
from alignctl.errors import CheckpointError
from alignctl.runs import RunDirectory
from alignctl.runs.checkpoints import save_weights
from alignctl.runs.directory import checkpoint_file
from alignctl.runs.states import save_state


def save_on_a_full_disk(context: WorkerContext, folder: Path) -> list[str]:
    """How weights and a state are refused where no file may grow beyond 20 kB."""
    run, large = RunDirectory(folder), {"a": torch.ones(100_000)}
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    refused = []
    for save in (
        lambda: save_weights(checkpoint_file(run, "cl", 1), large),
        lambda: save_state(run, 1, "cl", large),
    ):
        try:
            save()
        except CheckpointError as error:
            refused.append(str(error))
    return refused
