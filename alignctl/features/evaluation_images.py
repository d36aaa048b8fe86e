"""The un-augmented images of a split, a few at a time."""

from collections.abc import Generator, Iterable

import torch
from torch import Tensor

from alignctl.datasets import ImageSet

IMAGES_PER_PASS = 512


def image_passes(
    images: ImageSet, parts: Iterable[slice], device: torch.device
) -> Generator[Tensor, None, None]:
    """The images of each part in passes, (n, H, W, 3) uint8 on the device, in order.

    They may be decoded ahead, from the first pass asked for until this is closed.
    """
    passes = [images.ids[rows] for part in parts for rows in passes_of(part)]
    yield from images.centres(passes, device=device)


def passes_of(part: slice) -> list[slice]:
    """The rows of each pass over a part; one without rows where it has none."""
    starts = range(part.start, max(part.stop, part.start + 1), IMAGES_PER_PASS)
    return [slice(start, min(start + IMAGES_PER_PASS, part.stop)) for start in starts]
