"""Training images that are not in memory: crops cut by other processes, coloured on the device."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignctl.augmentations import draw_crops, draw_views, finish_views, to_device
from alignctl.config import StudyConfig
from alignctl.datasets import EncodedImageSet
from alignctl.datasets.decoding import crop_and_resize, open_image
from alignctl.datasets.streaming import Decode, decoded_ahead, num_decoding_processes

_NUM_VIEWS = 2


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """All training images as they are stored; a view is a crop of the whole image.

    Where an image has two views, it is decoded once for both.
    """

    study: StudyConfig
    images: EncodedImageSet
    device: torch.device

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of a view."""
        return self.images.image_shape

    def views(
        self, batches: NDArray[np.int64], *, epoch: int, received: Callable[[], None]
    ) -> Generator[Tensor, None, None]:
        """The views of each batch, decoded ahead by processes of which they do not depend."""

        def finish(ids: NDArray[np.int64], crops: NDArray[np.uint8]) -> Tensor:
            return finish_views(
                to_device(crops, self.device),
                ids,
                config=self.study.augmentation,
                seed=self.study.seed,
                epoch=epoch,
            )

        return decoded_ahead(
            list(self.images.ids[batches]),
            self.crops(epoch),
            shape=(_NUM_VIEWS, *self.image_shape, 3),
            take=finish,
            num_processes=num_decoding_processes(
                self.images.workers,
                threads=torch.get_num_threads(),
                on_gpu=self.device.type == "cuda",
            ),
            received=received,
        )

    def crops(self, epoch: int) -> Decode:
        """Writes the crops of all views of an image: (m, V, size, size, 3). Needs no torch."""
        config, size = self.study.augmentation, self.images.image_size

        def decode(ids: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
            draws = draw_views(ids, seed=self.study.seed, epoch=epoch, num_views=_NUM_VIEWS)
            for row, item in enumerate(self.images.encoded(ids)):
                image = open_image(item)
                own = np.stack([view[row] for view in draws])
                boxes = draw_crops(own, config, height=image.height, width=image.width)
                for view, box in enumerate(boxes):
                    out[row, view] = np.asarray(crop_and_resize(image, box, size))

        return decode
