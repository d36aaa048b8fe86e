"""Mutual nearest neighbours: do two spaces place the same images around each image?"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from alignctl.metrics.arguments import check_choice, check_whole
from alignctl.metrics.rows import NO_DIRECTION

Distance = Literal["cosine", "euclidean"]

_BLOCK = 512  # rows and columns of the distance matrix at a time


def knn_overlap(x: Tensor, y: Tensor, *, k: int, distance: Distance) -> float:
    """Share of the k nearest neighbours of an image that two spaces agree on, in [0, 1].

    The mean over images of |N_x(i) & N_y(i)| / k; two unrelated spaces have k / (n - 1).
    x: (n, d1) and y: (n, d2), same images in the same order, on one device, finite, n > k, any
    floating-point dtype; in float64 from there. No image is its own neighbour. Distances that
    differ by no more than rounding are ties, and of ties the lower row numbers come first.
    Memory: O(n + d), times the rows of a block. Time: O(n^2 (d1 + d2)).
    Raises ValueError if n <= k, if all rows are the same, or for a zero row under cosine distance.
    Source: Huh et al. 2024, mutual k-nearest-neighbour metric.
    """
    check_whole("k", k, at_least=1)
    check_choice("distance", distance, get_args(Distance))
    if k >= len(x):
        raise ValueError(f"k={k} needs more than {k} rows, not {len(x)}")
    spaces = _Space.of(x, "x", distance), _Space.of(y, "y", distance)
    shared = 0
    for start in range(0, len(x), _BLOCK):
        near_x, near_y = (_nearest(space, start, k) for space in spaces)
        shared += int((near_x & near_y).sum())
    return shared / (k * len(x))


@dataclass(frozen=True, eq=False)
class _Space:
    """Rows between which |a - b|^2 ranks the images: near the origin, of one length for cosine."""

    rows: Tensor
    """(n, d): as they came."""
    lengths: Tensor
    """(n, 1), float64: what they are divided by."""
    origin: Tensor
    """(d,), float64: what is then taken off, so that a common offset costs no digits."""
    is_unit: bool

    @classmethod
    def of(cls, rows: Tensor, name: str, distance: Distance) -> "_Space":
        rows = rows.detach()
        if (rows == rows[:1]).all():
            raise ValueError(f"{name}: every row is the same")
        lengths = torch.ones(len(rows), 1, dtype=torch.float64, device=rows.device)
        if distance == "cosine":
            lengths = torch.cat([_lengths(block) for block in torch.split(rows, _BLOCK)])
            zero = (lengths == 0).ravel()
            if zero.any():
                row = int(zero.nonzero()[0])
                raise ValueError(f"{name}, row {row}: {NO_DIRECTION['unit']}")
        space = cls(rows, lengths, lengths.new_zeros(rows.shape[1]), distance == "cosine")
        sums = [space.block(start).sum(dim=0) for start in range(0, len(rows), _BLOCK)]
        return replace(space, origin=torch.stack(sums).sum(dim=0) / len(rows))

    def block(self, start: int) -> Tensor:
        """Some rows, prepared: (m, d), float64."""
        some = slice(start, start + _BLOCK)
        return self.rows[some].double() / self.lengths[some] - self.origin


def _lengths(rows: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    return lengths


def _nearest(space: _Space, start: int, k: int) -> Tensor:
    """Which images are among the k nearest, for one block of rows: (m, n), bool."""
    rows = space.block(start)
    distances = torch.cat(
        [_squares(rows, space.block(other)) for other in range(0, len(space.rows), _BLOCK)], dim=1
    )
    distances.diagonal(start).fill_(torch.inf)
    last = distances.kthvalue(k, dim=1, keepdim=True).values
    tolerance = _rounding(space, rows, last)
    nearer = distances < last - tolerance
    tied = (distances <= last + tolerance) & ~nearer
    room = k - nearer.sum(dim=1, keepdim=True)
    return nearer | (tied & (tied.cumsum(dim=1) <= room))


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of all rows of a to all of b."""
    lengths = a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1)
    return torch.addmm(lengths, a, b.T, alpha=-2)


def _rounding(space: _Space, rows: Tensor, distances: Tensor) -> Tensor:
    """How far the `_squares` of two pairs at this distance may be apart where they are equal.

    Each is off by at most (d + 2) eps (|a|^2 + |b|^2), and |b|^2 <= 2 |a|^2 + 2 |a - b|^2. Where
    rows were divided by their length, |a - b| was off by up to 2 (d + 2) eps before.
    """
    distances = distances.abs()
    squares = rows.square().sum(dim=1, keepdim=True)
    share = (rows.shape[1] + 2) * torch.finfo(rows.dtype).eps
    error = share * (3 * squares + 2 * distances)
    if space.is_unit:
        error += 4 * share * (distances.sqrt() + share)
    return 2 * error
