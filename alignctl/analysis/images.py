"""The un-augmented images of a split, a few at a time, from memory or decoded ahead."""

from collections.abc import Generator, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignctl.augmentations import to_device
from alignctl.datasets import EncodedImageSet, ImageSet
from alignctl.datasets.streaming import decode_centres, decoded_ahead, num_decoding_processes

IMAGES_PER_PASS = 512


def image_passes(
    images: ImageSet | EncodedImageSet, parts: Iterable[slice], device: torch.device
) -> Generator[Tensor, None, None]:
    """The images of each part in passes, (n, H, W, 3) uint8 on the device, in order.

    Images that are not in memory are decoded from the first pass asked for until this is closed,
    two passes ahead.
    """
    passes = [rows for part in parts for rows in passes_of(part)]
    if isinstance(images, ImageSet):
        yield from (to_device(images.images[rows], device) for rows in passes)
        return

    def own(ids: NDArray[np.int64], pixels: NDArray[np.uint8]) -> Tensor:
        taken = to_device(pixels, device)
        return taken.clone() if device.type == "cpu" else taken  # there it is still their memory

    yield from decoded_ahead(
        [images.ids[rows] for rows in passes],
        decode_centres(images),
        shape=(*images.image_shape, 3),
        take=own,
        num_processes=num_decoding_processes(
            images.workers, threads=torch.get_num_threads(), on_gpu=device.type == "cuda"
        ),
    )


def passes_of(part: slice) -> list[slice]:
    """The rows of each pass over a part; one without rows where it has none."""
    starts = range(part.start, max(part.stop, part.start + 1), IMAGES_PER_PASS)
    return [slice(start, min(start + IMAGES_PER_PASS, part.stop)) for start in starts]
