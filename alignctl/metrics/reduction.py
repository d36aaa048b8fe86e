"""Few rows that stand for all images, for what depends on the geometry of centred columns alone.

Procrustes distance and canonical correlations of X and Y follow from the inner products X'X, Y'Y
and X'Y of centred columns. Forming these squares the ratio of a space's largest to its smallest
direction, and with it the rounding: at a ratio of 1e7 whitening has two digits left. The factor R
of [1 X Y] = Q R has the same inner products and is not squared. Rows are decomposed a chunk at a
time, R = qr([R of the rows before; chunk]); what is below the row of the ones is centred.

A space with more columns than images is turned onto n axes instead: X = R'Q' for X' = Q R, where R'
is (n, n). So nothing larger than the features is formed, whichever side is the longer one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from alignctl.metrics.feature_space import CHUNK, Features, whole
from alignctl.metrics.sums.rows import frame_of, refuse_not_finite_rows

_BLOCK_ENTRIES = 2**22  # of features in float64 at a time: 32 MiB


@dataclass(frozen=True, eq=False)
class CentredRows:
    """Rows whose columns have the inner products of a space's centred columns."""

    rows: Tensor
    """(p, r), float64, p and r at most n and d; the largest entry lies in [0.5, 1)."""
    count: int
    """n, the number of images."""
    columns: Callable[[], Iterator[Tensor]]
    """The same before they were turned and scaled: blocks of all d columns, (p, m)."""
    rounding: float
    """What the features' own dtype may add to a singular value, relative to the Frobenius norm."""


def reduced(
    x: Features, y: Features, device: torch.device | None = None
) -> tuple[CentredRows, CentredRows]:
    """Two spaces of the same images as few rows: at most n, and at most d1 + d2 of them.

    Time: O(n (d1 + d2)^2), or O(n^2 (d1 + d2)) where a space is wider than n. Memory: what is
    larger of (d1 + d2)^2 and a chunk of rows, but never more than a few times the features.
    Raises NotFiniteError that names the space as x or y, and the row.
    """
    device = device or torch.device("cpu")
    if x.num_rows > x.num_columns + y.num_columns:
        return _fewer_rows(x, y, device)
    return _fewer_columns(x, "x", device), _fewer_columns(y, "y", device)


def _fewer_rows(x: Features, y: Features, device: torch.device) -> tuple[CentredRows, CentredRows]:
    first = [space.rows(slice(0, CHUNK // 8)).to(device) for space in (x, y)]
    frames = [frame_of(rows) for rows in first]
    width = 1 + x.num_columns + y.num_columns
    sides = (slice(1, 1 + x.num_columns), slice(1 + x.num_columns, width))
    # Chunks of twice the factor's rows: what is decomposed again is a third at most.
    size = max(2 * width, _BLOCK_ENTRIES // width)
    stack = frames[0].origin.new_empty(min(width + size, x.num_rows), width)
    filled = 0
    for start in range(0, x.num_rows, size):
        chunk = [space.rows(slice(start, start + size)).to(device) for space in (x, y)]
        part = stack[filled : filled + len(chunk[0])]
        part[:, 0] = 1
        for name, rows, frame, side in zip("xy", chunk, frames, sides, strict=True):
            refuse_not_finite_rows(name, rows, start)
            torch.sub(rows, frame.origin, out=part[:, side]).mul_(frame.scale)
        factor = _triangle(stack[: filled + len(part)])
        filled = len(factor)
        stack[:filled] = factor
    a, b = (
        _scaled(
            factor[1:, side], rows.dtype, x.num_rows, columns=partial(_blocks, factor[1:, side])
        )
        for side, rows in zip(sides, first, strict=True)
    )
    return a, b


def _fewer_columns(space: Features, name: str, device: torch.device) -> CentredRows:
    features = whole(space).to(device)
    refuse_not_finite_rows(name, features)
    columns = partial(_centred_blocks, features)
    if features.shape[1] <= len(features):
        turned = torch.cat(list(columns()), dim=1)
        return _scaled(turned, features.dtype, len(features), columns=columns)
    factor = torch.zeros(0, len(features), dtype=torch.float64, device=device)
    for block in columns():
        factor = _triangle(torch.cat([factor, block.T]))
    return _scaled(factor.T, features.dtype, len(features), columns=columns)


def _blocks(rows: Tensor) -> Iterator[Tensor]:
    """All columns, some at a time."""
    num_rows, num_columns = rows.shape
    size = max(2 * num_rows, _BLOCK_ENTRIES // num_rows)
    for start in range(0, num_columns, size):
        yield rows[:, start : start + size]


def _centred_blocks(features: Tensor) -> Iterator[Tensor]:
    """Columns less their mean, some at a time; float64."""
    for block in _blocks(features):
        # The first row before the mean: equal numbers become exactly 0.
        rows = block.double() - block[:1].double()
        yield rows - rows.mean(dim=0)


def _triangle(rows: Tensor) -> Tensor:
    """R of rows = Q R: at most as many rows as columns, with the same inner products."""
    factor: Tensor = torch.linalg.qr(rows, mode="r").R
    return factor


def _scaled(
    rows: Tensor, dtype: torch.dtype, count: int, *, columns: Callable[[], Iterator[Tensor]]
) -> CentredRows:
    """With a power of two taken off, so that squares fit float64. dtype: of the features."""
    exponent = torch.frexp(rows.abs().amax()).exponent
    scale = torch.ldexp(rows.new_ones(()), -exponent)
    rounding = torch.finfo(dtype).eps / 2 * (count**-0.5 + rows.shape[1] ** -0.5)
    return CentredRows(rows * scale, count, columns, rounding)
