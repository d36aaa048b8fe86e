"""What a set of images is to whoever trains or evaluates on it, wherever its pixels are."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")

Boxes = Callable[[slice, int, int], NDArray[np.int64]]
"""The crops of some images of a batch: from their rows (m of them) and the height and width of the
whole images to top, left, height and width of each view's crop, (V, m, 4)."""

DrawBoxes = Callable[[NDArray[np.int64]], Boxes]
"""From the ids of a batch, (B,), to its crops. Needs no torch, for other processes call it."""

Crops = Callable[[slice, NDArray[np.bool_]], "Tensor"]
"""The pixels of some crops of a batch on the device, new memory: from their rows (the first view of
all B images, then the second) and which of them to mirror to (n, 3, H, W) float32 in [0, 1]."""


class TrainingImages(Protocol):
    """Images of which crops are cut for a device."""

    def crops(
        self,
        batches: Sequence[NDArray[np.int64]],
        draw_boxes: DrawBoxes,
        *,
        take: Callable[[NDArray[np.int64], Crops], T],
        received: Callable[[], None] = lambda: None,
    ) -> Generator[T, None, None]:
        """What `take` makes of each batch's crops at the size of a view, in order.

        batches: ids (B,), at most once in a batch, V crops of each. take: given the ids and their
        crops, which are gone once it returns. received: called whenever some images have come.
        Crops may be cut ahead until the generator is closed, but none before it is first asked;
        nothing waits for the device.
        """


class ImageSet(Protocol):
    """The images of one split that a study uses."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,): index into `class_names`."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """(N,): index of each image in the whole split, ascending."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The chosen classes."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What is to be known of the images, a line each."""

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of every un-augmented image and of every view."""

    @property
    def digest(self) -> str:
        """SHA-256 of ids, labels and what tells the images from others."""

    @property
    def digest_covers_pixels(self) -> bool:
        """Whether the digest is of pixels, which another decoder may give otherwise."""

    def centres(
        self, batches: Sequence[NDArray[np.int64]], *, device: torch.device
    ) -> Generator[Tensor, None, None]:
        """The un-augmented images of each batch of ids, in order: (m, H, W, 3) uint8.

        They may be decoded ahead until the generator is closed, but none before it is first asked.
        """

    def for_training(self, device: torch.device) -> TrainingImages:
        """The same images, of which crops are cut for this device, by the ids of this set."""
