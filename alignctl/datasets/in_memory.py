"""Images that are held in memory, decoded."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from alignctl.datasets.image_set import Crops, DrawBoxes
from alignctl.datasets.proof import sha256_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ImagesInMemory:
    """An `ImageSet` of decoded images.

    images: (N, H, W, 3) uint8. labels: (N,) index into class_names, the chosen classes.
    ids: (N,) index of each image in the whole split, ascending.
    notices: what is to be known of them, a line each.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    class_names: tuple[str, ...]
    notices: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.images.shape[1], self.images.shape[2]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of images, labels and ids, wherever they were read from."""
        return sha256_of(self.images, self.labels, self.ids)

    @property
    def digest_covers_pixels(self) -> bool:
        """True: it is of the decoded pixels."""
        return True

    def centres(
        self, batches: Sequence[NDArray[np.int64]], *, device: torch.device
    ) -> Generator[Tensor, None, None]:
        """The images of each batch of ids, in order: (m, H, W, 3) uint8 on the device."""
        from alignctl.transfers import to_device

        for ids in batches:
            yield to_device(self.images[np.searchsorted(self.ids, ids)], device)

    def for_training(self, device: torch.device) -> PixelsOnDevice:
        """All images on the device, where crops are cut."""
        import torch

        return PixelsOnDevice(torch.from_numpy(self.images).to(device), self.ids)


@dataclass(frozen=True, eq=False)
class PixelsOnDevice:
    """`TrainingImages` that are on the device as a whole.

    pixels: (N, H, W, 3) uint8. ids: (N,) ascending.
    """

    pixels: Tensor
    ids: NDArray[np.int64]

    def crops(
        self,
        batches: Sequence[NDArray[np.int64]],
        draw_boxes: DrawBoxes,
        *,
        take: Callable[[NDArray[np.int64], Crops], T],
        received: Callable[[], None] = lambda: None,
    ) -> Generator[T, None, None]:
        """What `take` makes of each batch's crops; see `TrainingImages`."""
        from alignctl.datasets.device_crops import crops_of
        from alignctl.transfers import to_device

        height, width = self.pixels.shape[1:3]
        for ids in batches:
            positions = np.searchsorted(self.ids, ids)
            images = self.pixels[to_device(positions, self.pixels.device)]
            yield take(ids, crops_of(images, draw_boxes(ids)(slice(None), height, width)))
