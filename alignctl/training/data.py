"""The training images, and the shared batches of views drawn from them."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignctl.augmentations import make_views, to_device
from alignctl.config import StudyConfig
from alignctl.config.placement import refuse_unfilled_batch
from alignctl.datasets import ImageSet, data_digest, open_images, summary_of
from alignctl.datasets.labels import refuse_too_few_classes
from alignctl.encoders import check_image_size
from alignctl.errors import MissingSplitError
from alignctl.objectives import ViewBatch
from alignctl.processes import ALONE, Processes
from alignctl.randomness import uniforms_float32
from alignctl.training.batches import draw_batches
from alignctl.training.streaming import StreamedImages


class TrainingImages(Protocol):
    """Where the views of the training images come from."""

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of a view."""

    def views(
        self, batches: NDArray[np.int64], *, epoch: int, received: Callable[[], None]
    ) -> Generator[Tensor, None, None]:
        """The views of each batch on the device, (V, B, 3, H, W) float32, in order.

        batches: (num_batches, B) positions among the training images. received: called whenever
        some images have come. A view depends on (image, seed, epoch, id, view, config) alone.
        """


@dataclass(frozen=True, eq=False)
class ImagesInMemory:
    """All training images, as uint8 on the device."""

    study: StudyConfig
    images: Tensor
    """(N, H, W, 3) uint8 on the device."""
    ids: NDArray[np.int64]

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of a view."""
        return self.images.shape[1], self.images.shape[2]

    def views(
        self, batches: NDArray[np.int64], *, epoch: int, received: Callable[[], None]
    ) -> Generator[Tensor, None, None]:
        """The views of each batch."""
        for batch in batches:
            yield make_views(
                self.images[to_device(batch, self.images.device)],
                self.ids[batch],
                config=self.study.augmentation,
                seed=self.study.seed,
                epoch=epoch,
            )


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The images that a study is trained on, and how they are batched."""

    study: StudyConfig
    images: TrainingImages
    device: torch.device
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    num_classes: int
    digest: str
    """See `data_digest`; the pixels of images that are not in memory are proven by the digest of
    each epoch's batches."""
    notices: tuple[str, ...] = ()
    """What is to be known of the images, a line each."""

    @property
    def steps_per_epoch(self) -> int:
        """Complete batches in one epoch."""
        return len(self.ids) // self.study.training.batch_size

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of a view."""
        return self.images.image_shape

    def batches(
        self,
        epoch: int,
        *,
        first_step: int = 0,
        peers: Processes = ALONE,
        received: Callable[[], None] = lambda: None,
    ) -> Generator[ViewBatch, None, None]:
        """The batches of one epoch (from 0), the same in every process of the study.

        first_step: how many of them to pass over, at no cost. With peers: this process's share.
        received: called whenever some images have been decoded. Images that are not in memory are
        decoded ahead until the generator is closed.
        """
        training = self.study.training
        positions = draw_batches(
            self.labels,
            self.ids,
            batch_size=training.batch_size,
            method=training.batches,
            seed=self.study.seed,
            epoch=epoch,
        )
        shares = positions.reshape(len(positions), peers.size, -1)[first_step:, peers.rank]
        with closing(self.images.views(shares, epoch=epoch, received=received)) as views:
            for batch, images in zip(shares, views, strict=True):
                yield ViewBatch(
                    images=images,
                    labels=to_device(self.labels[batch], self.device),
                    ids=to_device(self.ids[batch], self.device),
                    peers=peers,
                    draws=self._draws(self.ids[batch], epoch),
                )

    def _draws(self, ids: NDArray[np.int64], epoch: int) -> dict[str, Tensor]:
        """The random numbers that objectives ask for, of some images by purpose, on the device."""
        return {
            purpose: to_device(
                uniforms_float32(
                    self.study.seed, purpose, epoch=epoch, samples=ids, num_draws=num_draws
                ),
                self.device,
            )
            for purpose, num_draws in self.study.batch_needs.uniforms.items()
        }


def load_training_data(study: StudyConfig, device: torch.device) -> TrainingData:
    """The train split, in memory or not.

    Raises ConfigError where it does not fill one batch, or lacks the labels of an objective.
    """
    found = open_images(study.dataset, "train")
    refuse_too_few_classes(study.objectives, found.class_names)
    refuse_unfilled_batch(study, len(found.ids))
    images: TrainingImages
    if isinstance(found, ImageSet):
        images = ImagesInMemory(study, torch.from_numpy(found.images).to(device), found.ids)
    else:
        images = StreamedImages(study, found, device)
    return TrainingData(
        study=study,
        images=images,
        device=device,
        labels=found.labels,
        ids=found.ids,
        num_classes=len(found.class_names),
        digest=data_digest(found),
        notices=found.notices,
    )


def check_test_data(study: StudyConfig, *, images: bool) -> tuple[str, ...]:
    """What is to be known of the images that evaluation will be on, a line each.

    images: decode them as well, where they are to be in memory; of others the first alone.
    Raises what evaluation would, hours later; a test split may be missing.
    """
    try:
        if not images:
            return summary_of(study.dataset, "test").notices
        found = open_images(study.dataset, "test")
    except MissingSplitError as error:
        return (f"evaluation will be on train only: {error}",)
    check_image_size(study.encoder, *found.image_shape)
    return found.notices
