"""From the output of a layer to one vector for each image."""

import torch
from torch import Tensor


def pooled(output: object, pixels: torch.Size, *, any_layout: bool = False) -> Tensor:
    """A layer's output, (n, d), averaged over positions.

    output: (n, d), (n, tokens, d) or (n, d, height, width), of images whose shape, (n, 3, H, W), is
    `pixels`. any_layout: (n, height, width, d) is possible as well; the shapes decide which.
    Raises ValueError for any other output, as words that follow the layer's name.
    """
    if not isinstance(output, Tensor):
        raise ValueError(f"gives a {type(output).__name__}, not one tensor")
    shape = tuple(output.shape)
    if output.ndim not in (2, 3, 4) or shape[0] != pixels[0]:
        raise ValueError(f"gives a tensor {shape} for {pixels[0]} images")
    if output.ndim == 2:
        return output
    if output.ndim == 3:
        return output.mean(dim=1)
    return output.mean(dim=_positions(shape, pixels) if any_layout else (2, 3))


def _positions(shape: tuple[int, ...], pixels: torch.Size) -> tuple[int, int]:
    """The two dimensions that are height and width: as long as each other in square images."""
    fitting = [
        dims
        for dims in ((2, 3), (1, 2))
        if _has_aspect(shape[dims[0]], shape[dims[1]], height=pixels[2], width=pixels[3])
    ]
    if len(fitting) != 1:
        raise ValueError(f"gives a tensor {shape}, in which positions cannot be told from features")
    return fitting[0]


def _has_aspect(rows: int, columns: int, *, height: int, width: int) -> bool:
    if height == width:
        return rows == columns
    return rows <= columns if height < width else rows >= columns
