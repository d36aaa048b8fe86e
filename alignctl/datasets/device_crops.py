"""Crops as tensors: cut out of images on the device, or cut elsewhere before."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignctl.datasets.image_set import Crops
from alignctl.transfers import to_device


def crops_of(images: Tensor, boxes: NDArray[np.int64]) -> Crops:
    """Crops that are cut when they are asked for, each at the size of the whole image.

    images: (B, H, W, 3) uint8 on any device; the crops are on the same one. boxes: (V, B, 4) top,
    left, height and width.
    """
    columns = images.permute(0, 2, 3, 1).contiguous()  # (B, W, 3, H)
    num_views, num_images, _ = boxes.shape
    assert len(images) == num_images
    sources = np.tile(np.arange(num_images), num_views)
    flat = boxes.reshape(-1, 4)

    def crops(rows: slice, mirrored: NDArray[np.bool_]) -> Tensor:
        return _crop(columns, sources[rows], flat[rows], mirrored)

    return crops


def ready_crops(pixels: Tensor) -> Crops:
    """Crops that were cut before: (B, V, H, W, 3) uint8, all crops of an image together."""
    planes = pixels.permute(1, 0, 4, 2, 3).flatten(0, 1)

    def crops(rows: slice, mirrored: NDArray[np.bool_]) -> Tensor:
        found = planes[rows].to(torch.float32).div_(255)
        if mirrored.any():
            chosen = to_device(np.flatnonzero(mirrored), found.device)
            found.index_copy_(0, chosen, found.index_select(0, chosen).flip(3))
        return found

    return crops


def _crop(
    columns: Tensor,
    sources: NDArray[np.int64],
    boxes: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
) -> Tensor:
    """The crops at the size of the whole image: (n, 3, H, W) float32 in [0, 1].

    columns: (B, W, 3, H) uint8; sources: (n,) which image each crop is of.
    """
    _, width, _, height = columns.shape
    top, left, crop_height, crop_width = boxes.T
    across = _taps(left, crop_width, num_outputs=width)
    flipped = mirrored[:, None]  # read from right to left
    across = [np.where(flipped, array[..., ::-1], array) for array in across]
    down = _taps(top, crop_height, num_outputs=height)
    wide = _interpolate(columns, sources, across)
    rows = wide.permute(0, 3, 2, 1).contiguous()  # (n, H, 3, W)
    whole = _interpolate(rows, np.arange(len(sources)), down)
    return whole.transpose(1, 2).contiguous().div_(255)


def _taps(
    start: NDArray[np.int64], size: NDArray[np.int64], *, num_outputs: int
) -> list[NDArray[Any]]:
    """The two lines around each output line, (2, n, num_outputs), and the weight of the second.

    A crop is never larger than the image and so is only enlarged, where the triangle filter of
    an antialiased resize has two taps.
    """
    last = size[:, None] - 1
    centres = (np.arange(num_outputs) + 0.5) * (size[:, None] / num_outputs) - 0.5
    centres = np.clip(centres, 0, last)
    low = centres.astype(np.int64)
    return [np.stack((low, np.minimum(low + 1, last))) + start[:, None], centres - low]


def _interpolate(lines: Tensor, sources: NDArray[np.int64], taps: list[NDArray[Any]]) -> Tensor:
    """Lines between the lines of each source: (n, num_lines, ...) float32.

    lines: (B, num_lines, ...); sources: (n,).
    """
    num_lines = lines.shape[1]
    flat = lines.flatten(2).flatten(0, 1)
    pairs = to_device((taps[0] + sources[:, None] * num_lines).reshape(2, -1), lines.device)
    weights = to_device(taps[1].astype(np.float32).reshape(-1, 1), lines.device)
    low, high = (flat.index_select(0, rows).to(torch.float32) for rows in pairs.unbind())
    return high.sub_(low).mul_(weights).add_(low).view(len(sources), *lines.shape[1:])
