"""The training images in memory, and the shared batches of views drawn from them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignctl.augmentations import make_views
from alignctl.config import StudyConfig
from alignctl.datasets import load_images
from alignctl.errors import ConfigError
from alignctl.objectives import ALONE, Peers, ViewBatch
from alignctl.training.batches import draw_batches


@dataclass(frozen=True, eq=False)
class TrainingData:
    """All training images, as uint8 on the device, and how they are batched."""

    study: StudyConfig
    images: Tensor
    """(N, H, W, 3) uint8 on the device."""
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    num_classes: int
    digest: str
    """SHA-256 of images, labels and ids."""

    @property
    def steps_per_epoch(self) -> int:
        """Complete batches in one epoch."""
        return len(self.ids) // self.study.training.batch_size

    def batches(
        self, epoch: int, *, first_step: int = 0, peers: Peers = ALONE
    ) -> Iterator[ViewBatch]:
        """The batches of one epoch (from 0), the same in every process of the study.

        first_step: how many of them to pass over, at no cost. With peers: this process's share.
        """
        training, device = self.study.training, self.images.device
        positions = draw_batches(
            self.labels,
            self.ids,
            batch_size=training.batch_size,
            method=training.batches,
            seed=self.study.seed,
            epoch=epoch,
        )
        shares = positions.reshape(len(positions), peers.size, -1)[first_step:, peers.rank]
        for batch in shares:
            ids = self.ids[batch]
            yield ViewBatch(
                images=make_views(
                    self.images[torch.from_numpy(batch).to(device, non_blocking=True)],
                    ids,
                    config=self.study.augmentation,
                    seed=self.study.seed,
                    epoch=epoch,
                ),
                labels=torch.from_numpy(self.labels[batch]).to(device, non_blocking=True),
                ids=torch.from_numpy(ids).to(device, non_blocking=True),
                peers=peers,
            )


def load_training_data(study: StudyConfig, device: torch.device) -> TrainingData:
    """The train split in memory; ConfigError where it does not fill one batch."""
    found = load_images(study.dataset, "train")
    if len(found.ids) < study.training.batch_size:
        raise ConfigError(
            f"training.batch_size: {study.training.batch_size} images, "
            f"but the train split has only {len(found.ids)}"
        )
    total = hashlib.sha256()
    for array in (found.images, found.labels, found.ids):
        total.update(np.ascontiguousarray(array).data)
    return TrainingData(
        study=study,
        images=torch.from_numpy(found.images).to(device),
        labels=found.labels,
        ids=found.ids,
        num_classes=len(found.class_names),
        digest=total.hexdigest(),
    )
