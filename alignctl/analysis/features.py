"""What networks make of un-augmented images, batch by batch."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from alignctl.augmentations import normalise
from alignctl.config.training import AugmentationConfig
from alignctl.encoders import Network

Representation = Literal["h", "g"]
_IMAGES_PER_PASS = 512


@torch.inference_mode()
def features(
    networks: Sequence[Network],
    images: Tensor,
    representation: Representation,
    augmentation: AugmentationConfig,
) -> list[Tensor]:
    """One (n, d) float32 matrix for each network, on the device of the images.

    images: (n, H, W, 3) uint8. Every network sees the same normalised, un-augmented images.
    """
    parts: list[list[Tensor]] = [[] for _ in networks]
    for chunk in images.split(_IMAGES_PER_PASS):  # type: ignore[no-untyped-call]
        pixels = normalise(chunk, augmentation)
        for part, network in zip(parts, networks, strict=True):
            found = network(pixels)
            part.append(found.h if representation == "h" else found.g)
    return [torch.cat(part) for part in parts]


def chunks(num_images: int, *, rank: int, world_size: int, size: int) -> Iterator[slice]:
    """This process's share of the images, in slices of at most `size`; one empty slice for none."""
    first = num_images * rank // world_size
    last = num_images * (rank + 1) // world_size
    for start in range(first, max(last, first + 1), size):
        yield slice(start, min(start + size, last))
