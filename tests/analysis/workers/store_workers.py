"""A worker for the tests of stored features, in a module that started processes can import."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from alignctl.analysis.feature_store import stored_features
from alignctl.engine.context import WorkerContext
from alignctl.metrics import sources

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
        sources.CHUNK = job.chunk
        spaces = [space_of(job.num_images, index) for index in range(len(job.checkpoints))]
        stored = stored_features(
            context,
            job.folder,
            job.checkpoints,
            num_images=job.num_images,
            compute=lambda part, spaces=spaces: [space[part] for space in spaces],
            keep=True,
        )
        with stored as files:
            found.append([file.rows(slice(None)).tolist() for file in files])
    return found
