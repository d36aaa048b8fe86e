"""Frames that suit all rows, where those made of the first rows do not.

A frame is made before the pass over the rows. If the first rows are all zeros, or the later ones a
thousand times as long, squares leave the range of the dtype, or the frame's digits are not those in
which rows differ. One more pass finds how far all rows reach; their first origin stays, for it is
near some of them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alignctl.metrics.sums.moments import Moments, Origins
from alignctl.metrics.sums.rows import Frame
from alignctl.processes import Processes

# Mean squared lengths in a frame, which are near 1 where it was made of rows like these.
_SUITABLE = (2.0**-6, 2.0**6)


@dataclass(frozen=True)
class _Extent:
    """How far some rows lie from the origin of their frame."""

    largest: float = 0.0
    """Of the absolute differences."""
    square: float = 0.0
    """Sum of squared lengths, in units of the largest squared."""
    count: int = 0

    def __add__(self, other: "_Extent") -> "_Extent":
        largest = max(self.largest, other.largest)
        if not largest > 0:
            return replace(self, count=self.count + other.count)
        square = sum(one.square * (one.largest / largest) ** 2 for one in (self, other))
        return _Extent(largest, square, self.count + other.count)


def suits(moments: Moments) -> bool:
    """Whether the frames fit all rows that were measured; those of directed rows always do."""
    if "raw" not in moments.parts:
        return True
    part = moments.parts["raw"]
    low, high = _SUITABLE
    sizes = torch.stack([part.mean_square(i) for i in range(len(part.frames))])
    finite = all(product.isfinite().all() for product in part.products.values())
    return bool(finite and ((sizes >= low) & (sizes <= high)).all())


def fitted_origins(
    origins: Origins, chunks: Iterable[Sequence[Tensor]], processes: Processes
) -> Origins:
    """The same origins with the scale of all rows, alike on every process."""
    frames = origins.frames["raw"]
    extents = [_Extent()] * len(frames)
    for chunk in chunks:
        extents = [
            extent + _extent_of(rows, frame)
            for extent, rows, frame in zip(extents, chunk, frames, strict=True)
        ]
    every = [sum(parts, _Extent()) for parts in zip(*processes.gather(extents), strict=True)]
    fitted = tuple(_fitted(*both) for both in zip(frames, every, strict=True))
    return Origins({**origins.frames, "raw": fitted})


def _extent_of(rows: Tensor, frame: Frame) -> _Extent:
    if not rows.numel():
        return _Extent()
    shifted = rows.to(torch.float64) - frame.origin
    largest = float(shifted.abs().amax())
    if not 0 < largest < math.inf:  # what is not finite is named when it is measured
        return _Extent(0.0, 0.0, len(rows))
    return _Extent(largest, float((shifted / largest).square().sum()), len(rows))


def _fitted(frame: Frame, extent: _Extent) -> Frame:
    if not extent.largest > 0:
        return frame
    mean_square = extent.square / extent.count  # in units of the largest
    exponent = round(math.log2(extent.largest) + math.log2(mean_square) / 2)
    scale = torch.ldexp(torch.ones_like(frame.scale), torch.tensor(-exponent))
    reach = extent.largest * float(scale)
    return replace(frame, scale=scale, mean_square=scale.new_tensor(mean_square * reach**2))
