"""A worker for the tests of stored features, in a module that started processes can import."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from alignctl.engine.context import WorkerContext
from alignctl.features.feature_store import stored_features
from alignctl.metrics import feature_space

DIMS = (5, 3)


@dataclass(frozen=True)
class StoreJob:
    """Features to keep: so many images, a few at a time, each file in its folder."""

    folder: Path
    checkpoints: dict[str, Path]
    num_images: int
    chunk: int


def space_of(num_images: int, index: int) -> Tensor:
    """All rows of one model's features: (num_images, d)."""
    stream = torch.Generator().manual_seed(index)
    return torch.randn(num_images, DIMS[index], generator=stream)


def store(context: WorkerContext, jobs: list[StoreJob]) -> list[list[list[list[float]]]]:
    """What this worker reads back of every job's files."""
    found = []
    for job in jobs:
        feature_space.CHUNK = job.chunk
        spaces = [space_of(job.num_images, index) for index in range(len(job.checkpoints))]
        stored = stored_features(
            context,
            [job.folder],
            job.checkpoints,
            num_images=job.num_images,
            compute=lambda part, wanted, spaces=spaces: [[[space[part]] for space in spaces]],
            keep=True,
        )
        with stored as (files,):
            found.append([file.rows(slice(None)).tolist() for file in files])
    return found


@dataclass(frozen=True)
class FailingJob:
    """Features that are not kept, of which so many rounds fail in all processes."""

    folder: Path
    checkpoints: dict[str, Path]
    num_rounds: int


def fail_again_and_again(context: WorkerContext, job: FailingJob) -> list[str]:
    """What each round of this worker ended with; the first worker is the first to fail."""
    found = []
    for number in range(job.num_rounds):
        stored = stored_features(
            context,
            [job.folder / str(number) / "test_h"],
            job.checkpoints,
            num_images=4,
            compute=lambda part, wanted: [[[space_of(4, index)[part]] for index in range(2)]],
            keep=False,
        )
        try:
            with stored as (files,):
                time.sleep(0.02 * context.rank)
                for file in files:
                    file.rows(slice(None))
                raise ValueError("the real reason")
        except Exception as error:
            found.append(str(error))
        context.wait()
    return found
