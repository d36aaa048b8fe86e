"""Images that are decoded anew whenever they are looked at, ahead of time by other processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from alignctl.datasets.decoding import EncodedImage, crop_and_resize, open_image, resize_and_crop
from alignctl.datasets.decoding_ahead import Decode, decoded_ahead, num_decoding_processes
from alignctl.datasets.image_set import Crops, DrawBoxes
from alignctl.datasets.proof import sha256_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """An `ImageSet` of images as they are stored.

    encoded: see `Source`; marks: of these images. labels, ids, class_names, notices: see
    `ImageSet`; what images lose is looked up in the headers of some of them.
    image_size, resize: what un-augmented images are brought to; see `decode_images`.
    workers: decoding processes as configured, None where that is left open.
    """

    encoded: Callable[[NDArray[np.int64]], Iterator[EncodedImage]]
    marks: bytes
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    class_names: tuple[str, ...]
    image_size: int
    resize: int | None
    workers: int | None
    notices: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of every image once it is decoded."""
        return self.image_size, self.image_size

    @cached_property
    def digest(self) -> str:
        """SHA-256 of labels, ids, names of classes, and names of files or sizes of images.

        The pixels are proven by the digest of each epoch's batches.
        """
        names = "\0".join(self.class_names).encode()
        return sha256_of(self.labels, self.ids, names, self.marks)

    @property
    def digest_covers_pixels(self) -> bool:
        """False: nothing has been decoded yet."""
        return False

    def centres(
        self, batches: Sequence[NDArray[np.int64]], *, device: torch.device
    ) -> Generator[Tensor, None, None]:
        """The images of each batch of ids, in order: (m, H, W, 3) uint8 on the device.

        Decoded from the first batch asked for until this is closed, two batches ahead.
        """
        from alignctl.transfers import to_device

        def own(ids: NDArray[np.int64], pixels: NDArray[np.uint8]) -> Tensor:
            taken = to_device(pixels, device)
            # on a CPU it is still the memory that processes decode into
            return taken.clone() if device.type == "cpu" else taken

        return decoded_ahead(
            batches,
            decode_centres(self),
            shape=(*self.image_shape, 3),
            take=own,
            num_processes=num_processes_for(self, device),
        )

    def for_training(self, device: torch.device) -> StreamedCrops:
        """The images, of which other processes cut crops for this device."""
        return StreamedCrops(self, device)


@dataclass(frozen=True, eq=False)
class StreamedCrops:
    """`TrainingImages` that are decoded once for all crops of an image."""

    images: StreamedImages
    device: torch.device

    def crops(
        self,
        batches: Sequence[NDArray[np.int64]],
        draw_boxes: DrawBoxes,
        *,
        take: Callable[[NDArray[np.int64], Crops], T],
        received: Callable[[], None] = lambda: None,
    ) -> Generator[T, None, None]:
        """What `take` makes of each batch's crops, decoded and cut ahead; see `TrainingImages`."""
        from alignctl.datasets.device_crops import ready_crops
        from alignctl.transfers import to_device

        def take_pixels(ids: NDArray[np.int64], pixels: NDArray[np.uint8]) -> T:
            return take(ids, ready_crops(to_device(pixels, self.device)))

        size = self.images.image_size
        num_views = len(draw_boxes(self.images.ids[:0])(slice(0), size, size))
        return decoded_ahead(
            batches,
            decode_crops(self.images, draw_boxes),
            shape=(num_views, size, size, 3),
            take=take_pixels,
            num_processes=num_processes_for(self.images, self.device),
            received=received,
        )


def decode_centres(images: StreamedImages) -> Decode:
    """Writes images without augmentation, as they would be in memory: (m, size, size, 3)."""

    def decode(ids: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        for row, item in enumerate(images.encoded(ids)):
            image = resize_and_crop(open_image(item), images.image_size, images.resize)
            out[row] = np.asarray(image)

    return decode


def decode_crops(images: StreamedImages, draw_boxes: DrawBoxes) -> Decode:
    """Writes all crops of each image: (m, V, size, size, 3). Needs no torch."""

    def decode(ids: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        boxes = draw_boxes(ids)
        for row, item in enumerate(images.encoded(ids)):
            image = open_image(item)
            for view, box in enumerate(boxes(slice(row, row + 1), image.height, image.width)):
                out[row, view] = np.asarray(crop_and_resize(image, box[0], images.image_size))

    return decode


def num_processes_for(images: StreamedImages, device: torch.device) -> int:
    """How many processes decode for this one."""
    import torch

    return num_decoding_processes(
        images.workers, threads=torch.get_num_threads(), on_gpu=device.type == "cuda"
    )
