"""The training images, and the shared batches of views drawn from them."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignctl.config import StudyConfig
from alignctl.config.work_division import refuse_unfilled_batch
from alignctl.datasets import open_images, summary_of
from alignctl.datasets.image_set import Crops, TrainingImages
from alignctl.datasets.labels import refuse_too_few_classes
from alignctl.encoders import check_image_size
from alignctl.errors import MissingSplitError
from alignctl.objectives import ViewBatch
from alignctl.processes import ALONE, Processes
from alignctl.randomness import uniforms_float32
from alignctl.training.batches import draw_batches
from alignctl.transfers import to_device
from alignctl.views.groups import SHARED, boxes_of, groups_of, views_of


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The images that a study is trained on, and how they are batched."""

    study: StudyConfig
    images: TrainingImages
    image_shape: tuple[int, int]
    """Height and width of a view."""
    device: torch.device
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    num_classes: int
    digest: str
    """See `ImageSet`; pixels that it does not cover are proven by the digest of each epoch's
    batches."""
    notices: tuple[str, ...] = ()
    """What is to be known of the images, a line each."""

    @property
    def steps_per_epoch(self) -> int:
        """Complete batches in one epoch."""
        return len(self.ids) // self.study.training.batch_size

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
        positions = self._positions(epoch)
        shares = positions.reshape(len(positions), peers.size, -1)[first_step:, peers.rank]
        with closing(self._views(self.ids[shares], epoch, received)) as views:
            for batch, groups in zip(shares, views, strict=True):
                yield ViewBatch(
                    images=groups.pop(SHARED),
                    labels=to_device(self.labels[batch], self.device),
                    ids=to_device(self.ids[batch], self.device),
                    peers=peers,
                    groups=groups,
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

    def _positions(self, epoch: int) -> NDArray[np.int64]:
        training = self.study.training
        return draw_batches(
            self.labels,
            self.ids,
            batch_size=training.batch_size,
            method=training.batches,
            seed=self.study.seed,
            epoch=epoch,
        )

    def _views(
        self, batches: NDArray[np.int64], epoch: int, received: Callable[[], None]
    ) -> Generator[dict[str, Tensor], None, None]:
        """The views of each batch of ids on the device, by the name of their group, in order."""
        drawn = {"seed": self.study.seed, "epoch": epoch}
        groups = groups_of(self.study)

        def take(ids: NDArray[np.int64], crops: Crops) -> dict[str, Tensor]:
            return views_of(groups, crops, ids, shape=self.image_shape, device=self.device, **drawn)

        boxes = partial(boxes_of, groups, seed=self.study.seed, epoch=epoch)
        return self.images.crops(list(batches), boxes, take=take, received=received)


def load_training_data(study: StudyConfig, device: torch.device) -> TrainingData:
    """The train split.

    Raises ConfigError where it does not fill one batch, or lacks the labels of an objective.
    """
    found = open_images(study.dataset, "train")
    refuse_too_few_classes(study.objectives, found.class_names)
    refuse_unfilled_batch(study, len(found.ids))
    return TrainingData(
        study=study,
        images=found.for_training(device),
        image_shape=found.image_shape,
        device=device,
        labels=found.labels,
        ids=found.ids,
        num_classes=len(found.class_names),
        digest=found.digest,
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
