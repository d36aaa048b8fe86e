"""Mutual nearest neighbours: do two spaces place the same images around each image?"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from alignctl.metrics.arguments import check_choice, check_whole
from alignctl.metrics.ranks import FEW_DIGITS, MARGIN
from alignctl.metrics.scale import largest_entry, scale_to_one
from alignctl.metrics.sums.rows import NO_DIRECTION

Distance = Literal["cosine", "euclidean"]

_BLOCK = 512  # rows and columns of the distance matrix at a time
_LISTED_AT_MOST = 2**27  # bytes of the lists of neighbours of a space


def knn_overlap(x: Tensor, y: Tensor, *, k: int, distance: Distance) -> float:
    """Share of the k nearest neighbours of an image that two spaces agree on, in [0, 1].

    The mean over images of |N_x(i) & N_y(i)| / k; two unrelated spaces have k / (n - 1).
    x: (n, d1) and y: (n, d2), same images in the same order, on one device, finite, n > k, any
    floating-point dtype; in float64 from there. No image is its own neighbour. Distances that
    differ by no more than rounding are ties. Images tied at the last place share the places that
    those strictly nearer leave: each is a neighbour by (places left) / (number tied), and what two
    spaces share is the sum of the products of these shares. That is what to expect if each space
    drew among its ties on its own, so no order of rows matters, and a space with ties agrees with
    itself by less than 1.
    Memory: O(n + d), times the rows of a block, and the neighbours. Time: O(n^2 (d1 + d2)).
    Raises ValueError if n <= k, if all rows are the same, or for a zero row under cosine distance.
    Source: Huh et al. 2024, mutual k-nearest-neighbour metric.
    """
    check_whole("k", k, at_least=1)
    check_choice("distance", distance, get_args(Distance))
    a, b = (
        neighbours_of(space, name, k=k, distance=distance) for name, space in (("x", x), ("y", y))
    )
    return overlap(a, b)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """By how much each image of a space is among the k nearest of each other."""

    count: int
    """n."""
    k: int
    shares: Callable[[int], Tensor]
    """Of the block of rows that starts here: (m, n), in [0, 1]; booleans where nothing is tied."""
    num_bytes: int


def neighbours_of(x: Tensor, name: str, *, k: int, distance: Distance) -> Neighbours:
    """The neighbours of one space, for `overlap`; named in errors, which are those of it.

    Kept as lists; where ties make these long, each block is computed when it is asked for.
    """
    if k >= len(x):
        raise ValueError(f"k={k} needs more than {k} rows, not {len(x)}")
    space = _Space.of(x, name, distance)
    kept: dict[int, _Listed] = {}
    for start in range(0, len(x), _BLOCK):
        kept[start] = _Listed.of(_shares(space, start, k))
        if sum(listed.num_bytes for listed in kept.values()) > _LISTED_AT_MOST:
            num_bytes = x.numel() * x.element_size()
            return Neighbours(len(x), k, lambda start: _shares(space, start, k), num_bytes)
    num_bytes = sum(listed.num_bytes for listed in kept.values())
    return Neighbours(len(x), k, lambda start: kept[start].dense(), num_bytes)


def overlap(a: Neighbours, b: Neighbours) -> float:
    """`knn_overlap` from the neighbours in two spaces of the same images."""
    shared = 0.0
    for start in range(0, a.count, _BLOCK):
        shared += float((a.shares(start) * b.shares(start)).sum())
    return shared / (a.k * a.count)


@dataclass(frozen=True, eq=False)
class _Listed:
    """The entries of a block that are not 0."""

    shape: torch.Size
    places: Tensor
    values: Tensor

    @classmethod
    def of(cls, shares: Tensor) -> "_Listed":
        places = shares.ravel().nonzero().ravel()
        return cls(shares.shape, places, shares.ravel()[places])

    @property
    def num_bytes(self) -> int:
        return len(self.places) * (self.places.element_size() + self.values.element_size())

    def dense(self) -> Tensor:
        shares = self.values.new_zeros(self.shape)
        shares.view(-1)[self.places] = self.values
        return shares


@dataclass(frozen=True, eq=False)
class _Space:
    """Rows between which |a - b|^2 ranks the images: near the origin, of one length for cosine."""

    rows: Tensor
    """(n, d): as they came."""
    factors: Tensor
    """(n, 1), float64: a power of two that brings the largest entry near 1, over the length."""
    origin: Tensor
    """(d,), float64: what is then taken off, so that a common offset costs no digits."""
    is_unit: bool

    @classmethod
    def of(cls, rows: Tensor, name: str, distance: Distance) -> "_Space":
        rows = rows.detach()
        if (rows == rows[:1]).all():
            raise ValueError(f"{name}: every row is the same")
        factors = scale_to_one(largest_entry(rows)).expand(len(rows), 1)
        if distance == "cosine":
            factors = torch.cat([_to_length_1(block) for block in torch.split(rows, _BLOCK)])
            zero = factors.isinf().ravel()
            if zero.any():
                row = int(zero.nonzero()[0])
                raise ValueError(f"{name}, row {row}: {NO_DIRECTION['unit']}")
        space = cls(rows, factors, factors.new_zeros(rows.shape[1]), distance == "cosine")
        sums = [space.block(start).sum(dim=0) for start in range(0, len(rows), _BLOCK)]
        return replace(space, origin=torch.stack(sums).sum(dim=0) / len(rows))

    def block(self, start: int) -> Tensor:
        """Some rows, prepared: (m, d), float64."""
        some = slice(start, start + _BLOCK)
        scaled: Tensor = self.rows[some] * self.factors[some]
        return scaled.sub_(self.origin)


def _to_length_1(rows: Tensor) -> Tensor:
    """What to multiply each row by, in float64; infinite for a row of zeros: (m, 1)."""
    scale = scale_to_one(rows.abs().amax(dim=1, keepdim=True))
    lengths: Tensor = torch.linalg.vector_norm(rows.double() * scale, dim=1, keepdim=True)
    return scale / lengths


def _shares(space: _Space, start: int, k: int) -> Tensor:
    """By how much each image is among the k nearest, for one block of rows: (m, n), in [0, 1].

    As booleans where nothing is tied at the last place.
    """
    rows = space.block(start)
    distances = torch.cat(
        [_squares(rows, space.block(other)) for other in range(0, len(space.rows), _BLOCK)], dim=1
    )
    distances.diagonal(start).fill_(torch.inf)
    nearest = distances.topk(min(k + 1, len(space.rows) - 1), dim=1, largest=False).values
    last = nearest[:, k - 1 : k]
    arithmetic = _rounding(space, rows, last)
    widest = arithmetic + _feature_rounding(space, rows, last)
    off = (nearest - last).abs_()
    if ((off <= MARGIN * widest).sum(dim=1) == 1).all():  # the last alone: no ties
        return distances <= last
    tolerance = _tolerance(distances, last, arithmetic, widest)
    nearer, near = _within(distances, last, tolerance)
    num_nearer, num_near = (chosen.sum(dim=1, keepdim=True) for chosen in (nearer, near))
    share = (k - num_nearer) / (num_near - num_nearer).double()
    return torch.where(nearer, 1.0, near * share)


def _within(distances: Tensor, last: Tensor, tolerance: Tensor) -> tuple[Tensor, Tensor]:
    """Which are nearer than the last and its ties, and which are no farther."""
    return distances < last - tolerance, distances <= last + tolerance


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of all rows of a to all of b."""
    lengths = a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1)
    return torch.addmm(lengths, a, b.T, alpha=-2)


def _tolerance(distances: Tensor, last: Tensor, arithmetic: Tensor, widest: Tensor) -> Tensor:
    """How far a distance may be from the last of the k where both are equal in truth: (m, 1).

    The rounding of the features counts where what it ties lies four times as far from all else:
    then it is no chance that distances are so near each other.
    """
    off = (distances - last).abs_()
    inside, around = ((off <= times * widest).sum(dim=1, keepdim=True) for times in (1, MARGIN))
    return torch.where(inside == around, widest, arithmetic)


def _feature_rounding(space: _Space, rows: Tensor, distances: Tensor) -> Tensor:
    """By how much two squared distances differ if every entry was off by the last digit it has.

    In half precision this is as large as what separates neighbours, and counts for nothing.
    """
    precision = torch.finfo(space.rows.dtype).eps
    if precision > FEW_DIGITS:
        return torch.zeros_like(distances)
    apart = distances.abs().sqrt()
    reach = 2.0 * torch.ones_like(apart)
    if not space.is_unit:
        to_origin = torch.linalg.vector_norm(space.origin)
        reach = 2 * (torch.linalg.vector_norm(rows, dim=1, keepdim=True) + to_origin) + apart
    error = precision * reach
    return 2 * error * (2 * apart + error)


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
