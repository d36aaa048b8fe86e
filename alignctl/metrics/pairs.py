"""RSA from the pairs of images themselves, for where sums over images do not suffice."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignctl.config.metric_configs import Correlation, Distance
from alignctl.metrics.inference import pair_errors
from alignctl.metrics.inference.estimate import Estimate
from alignctl.metrics.inference.jackknife import Strata
from alignctl.metrics.ranks import FEW_DIGITS, Rounding, doubled_ranks
from alignctl.metrics.scale import largest_entry, scale_to_one
from alignctl.metrics.sums.rows import KIND_OF_DISTANCE, NO_DIRECTION
from alignctl.randomness import uniforms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK = 2**23  # numbers that are held in float64 at a time
_NUM_BINS = 512  # of the distances, for the standard error of Kendall's tau: three digits
_DIRECTED: tuple[Distance, ...] = ("cosine", "correlation")


def pair_rsa(
    x: Tensor,
    y: Tensor,
    *,
    distance: Distance,
    correlation: Correlation,
    max_pairs: int,
    seed: int,
    strata: Strata | None = None,
) -> Estimate:
    """Correlation of the distances of two spaces over pairs of images, in [-1, 1].

    x: (n, d1) and y: (n, d2), same images in the same order, finite, n >= 3, any floating-point
    dtype; in float64 from there. correlation distance: cosine of rows less their own mean;
    kendall: tau-b; ranks: distances that differ by no more than rounding are ties. All
    n (n - 1) / 2 pairs if these are no more than `max_pairs`. Else a random permutation of the
    images is cut into groups of g, g >= 2 with n (g - 1) / 2 <= max_pairs, and all pairs within
    groups are compared: every image in g - 1 pairs, but for up to g - 1 images that fill no group.
    Memory: O(number of pairs), and the rows of one group.
    The standard error is that of drawing other images, of the same numbers in the classes of
    `strata` where these are given, and other pairs where they are sampled: see `pair_errors`.
    Raises ValueError for n < 3, fewer pairs than n / 2, a row without a direction, or a space whose
    distances are equal.
    Source: Kriegeskorte et al. 2008; variance of sums over pairs as in Aronow et al. 2015.
    """
    is_ranked = correlation != "pearson"
    a, b = (
        pair_distances(
            space, name, distance=distance, is_ranked=is_ranked, max_pairs=max_pairs, seed=seed
        )
        for name, space in (("x", x), ("y", y))
    )
    return correlated(a, b, correlation, strata)


@dataclass(frozen=True, eq=False)
class PairDistances:
    """What RSA needs of one space, whichever it is compared with."""

    values: Any
    """Distances of all pairs within groups, float64, or their ranks, doubled, int64."""
    groups: Ints
    """(num_groups, size), images."""
    num_images: int
    """n, compared or not."""

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return int(self.values.nbytes + self.groups.nbytes)


def pair_distances(
    space: Tensor, name: str, *, distance: Distance, is_ranked: bool, max_pairs: int, seed: int
) -> PairDistances:
    """The distances of one space for `correlated`; named in errors, which are those of `pair_rsa`.

    is_ranked: for Spearman and Kendall.
    """
    if len(space) < 3:
        raise ValueError(f"RSA needs at least 3 rows, not {len(space)}")
    if 2 * max_pairs < len(space):
        raise ValueError(f"pairs={max_pairs} is less than half of {len(space)} images")
    groups = balanced_groups(len(space), max_pairs, seed)
    return PairDistances(_measured(space, name, groups, distance, is_ranked), groups, len(space))


def correlated(
    x: PairDistances, y: PairDistances, correlation: Correlation, strata: Strata | None = None
) -> Estimate:
    """`pair_rsa` from the distances of two spaces, of the same groups."""
    a, b = x.values, y.values
    value, influence = _CORRELATIONS[correlation](a, b)
    compared = pair_errors.Compared(x.groups, strata or Strata.single(x.num_images))
    exact = correlation == "pearson"
    pulls = pair_errors.pearson_pulls(a - a.mean(), b - b.mean(), compared) if exact else None
    return pair_errors.estimate(value, influence, pulls, compared)


def balanced_groups(num_images: int, max_pairs: int, seed: int) -> Ints:
    """Images to be compared with each other: (num_groups, size), each row ascending.

    No image twice; fewer than `size` are left out. One group of all if `max_pairs` allows it.
    """
    size = _group_size(num_images, max_pairs)
    draws = uniforms(
        seed, "pairs", epoch=0, samples=np.arange(num_images), view=0, num_draws=1
    ).ravel()
    order = np.argsort(draws, kind="stable")[: num_images // size * size]
    return np.sort(order.reshape(-1, size), axis=1)


def num_pairs(num_images: int, max_pairs: int) -> int:
    """How many pairs the `balanced_groups` of so many images have."""
    size = _group_size(num_images, max_pairs)
    return num_images // size * (size * (size - 1) // 2)


def _group_size(num_images: int, max_pairs: int) -> int:
    sizes = np.arange(2, _largest_group(num_images, max_pairs) + 1)
    # A little less than the largest may leave out far fewer images, and so give more pairs.
    return int(sizes[np.argmax(num_images // sizes * sizes * (sizes - 1))])


def _largest_group(num_images: int, max_pairs: int) -> int:
    return min(max(2 * max_pairs // num_images + 1, 2), num_images)


def num_pairs_of_compared(num_compared: int, max_pairs: int) -> int:
    """The same from how many images are in a group: the largest size that leaves none out.

    In one of a thousand cases the size was one smaller, which so many images do not tell.
    """
    sizes = range(_largest_group(num_compared, max_pairs), 1, -1)
    size = next((size for size in sizes if num_compared % size == 0), 2)
    return num_compared // size * (size * (size - 1) // 2)


def _measured(
    space: Tensor, name: str, groups: Ints, distance: Distance, is_ranked: bool
) -> Floats | Ints:
    """What is correlated of all pairs within groups, group after group: distances or their ranks.

    (num_groups * size * (size - 1) / 2,)
    """
    squares, rows = _squares(space, name, groups, distance)
    lengths = np.sqrt(squares)  # they rank like any of the distances
    rounding = _rounding(rows, space.shape[1])
    if rounding.may_all_be_one(lengths):
        raise ValueError(f"{name}: all distances are equal")
    if not is_ranked:
        return lengths if distance == "euclidean" else squares
    ranks = doubled_ranks(lengths, rounding)
    if ranks[0] == len(ranks) + 1 and (ranks == ranks[0]).all():
        raise ValueError(f"{name}: all distances are equal")
    return ranks


@dataclass(frozen=True, eq=False)
class _Errors:
    """Bounds on how far each row within groups may be off, by cause: (num_groups, size) each."""

    features: Floats
    arithmetic: Floats


def _squares(space: Tensor, name: str, groups: Ints, distance: Distance) -> tuple[Floats, _Errors]:
    """Squared distances of all pairs, up to a factor, and the errors of the rows between them."""
    from scipy.spatial.distance import pdist

    size = groups.shape[1]
    squares = np.zeros((len(groups), size * (size - 1) // 2))
    errors = _Errors(np.empty(groups.shape), np.empty(groups.shape))
    scale = scale_to_one(largest_entry(space.detach())).cpu()
    step = max(1, _BLOCK // (size * space.shape[1]))
    for start in range(0, len(groups), step):
        part = slice(start, start + step)
        images = groups[part]
        rows = space.detach()[torch.from_numpy(images.ravel()).to(space.device)]
        frame = _Frame.of(rows, distance, scale)
        _refuse_directionless(frame.lengths, name, images.ravel(), distance)
        errors.features[part] = frame.features.reshape(images.shape)
        errors.arithmetic[part] = frame.arithmetic.reshape(images.shape)
        for columns in frame.columns(rows):
            # Differences before products: exact under any offset, and equal rows give equal sums.
            for i, group in enumerate(columns.reshape(len(images), size, -1), start):
                squares[i] += pdist(group, metric="sqeuclidean")
    return squares.ravel(), errors


@dataclass(frozen=True, eq=False)
class _Frame:
    """Rows become (row * scale - shift) / length: the distance is between those, or their square.

    With unit rows z and w, cosine distance is |z - w|^2 / 2: no digits go where they are parallel.
    All are (m, 1), float64.
    """

    scales: Tensor
    """Powers of two."""
    shifts: Tensor
    lengths: Tensor
    """0 for a row without a direction."""
    features: Tensor
    """How far a row may be off because its entries were rounded before they came here."""
    arithmetic: Tensor
    """The same because of its own mean and length."""

    @classmethod
    def of(cls, rows: Tensor, distance: Distance, scale: Tensor) -> "_Frame":
        """scale: (), for rows that keep their lengths."""
        blocks = torch.split(rows, max(1, _BLOCK // rows.shape[1]))
        parts = [_frame(block, distance, scale) for block in blocks]
        return cls(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def columns(self, rows: Tensor) -> Iterator[Floats]:
        """The rows in this form, some columns at a time: (m, few)."""
        for block in torch.split(rows, max(1, _BLOCK // len(rows)), dim=1):
            scaled = block.to("cpu", torch.float64) * self.scales
            yield scaled.sub_(self.shifts).div_(self.lengths).numpy()


def _frame(rows: Tensor, distance: Distance, scale: Tensor) -> tuple[Tensor, ...]:
    """The fields of a `_Frame` for some rows."""
    precision, rows = torch.finfo(rows.dtype).eps, rows.to("cpu", torch.float64)
    largest = rows.abs().amax(dim=1, keepdim=True)
    scales = scale_to_one(largest) if distance in _DIRECTED else scale.expand_as(largest)
    rows = rows * scales
    shifts, lengths = torch.zeros_like(scales), torch.ones_like(scales)
    if distance == "correlation":
        # The mean of equal numbers may be off by rounding.
        constant = (rows == rows[:, :1]).all(dim=1, keepdim=True)
        shifts = torch.where(constant, rows[:, :1], rows.mean(dim=1, keepdim=True))
    whole = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if distance in _DIRECTED:
        lengths = torch.linalg.vector_norm(rows - shifts, dim=1, keepdim=True)
    # In half precision the bound for roundings that all add up is as large as what differs.
    reach = whole if precision < FEW_DIGITS else largest * scales
    arithmetic = 2 * _steps(rows.shape[1]) * whole / lengths
    return (
        scales,
        shifts,
        lengths,
        precision * reach / lengths,
        arithmetic if distance in _DIRECTED else torch.zeros_like(arithmetic),
    )


def _steps(width: int) -> float:
    """Relative error of the length of a row: half that of a sum of so many squares."""
    return (width + 8) / 4 * torch.finfo(torch.float64).eps


def _rounding(rows: _Errors, width: int) -> Rounding:
    """How far the distance of each pair of rows may be off."""
    features, arithmetic = (
        _sums_of_pairs(errors.astype(np.float32)) for errors in (rows.features, rows.arithmetic)
    )
    return Rounding(features, arithmetic, relative=_steps(width))


def _sums_of_pairs(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of all pairs within groups: (num_groups, size) -> (num_groups * size * (size - 1) / 2,)."""
    size = values.shape[1]
    if values.min() == values.max():  # as under cosine distance: no memory, and fast to look up
        return np.broadcast_to(2 * values[0, 0], len(values) * (size * (size - 1) // 2))
    sums = [values[:, i : i + 1] + values[:, i + 1 :] for i in range(size - 1)]
    return np.concatenate(sums, axis=1).ravel()


def _refuse_directionless(lengths: Tensor, name: str, images: Ints, distance: Distance) -> None:
    faults = images[(lengths.ravel() == 0).numpy()]
    if len(faults):
        problem = NO_DIRECTION[KIND_OF_DISTANCE[distance]]
        raise ValueError(f"{name}, row {faults.min()}: {problem}")


def _pearson(a: Floats, b: Floats) -> tuple[float, Floats]:
    return _linearised(np.multiply, 1, a - a.mean(), b - b.mean())


def _spearman(r: Ints, s: Ints) -> tuple[float, Floats]:
    _, influence = _linearised(_grade_products, 3, r, s)
    u, v = _grades(r), _grades(s)
    return float(u @ v) / math.sqrt(float(u @ u) * float(v @ v)), influence


def _kendall(r: Ints, s: Ints) -> tuple[float, Floats]:
    from scipy import stats

    bins = [(ranks - 1) * _NUM_BINS // (2 * len(ranks)) for ranks in (r, s)]
    _, influence = _linearised(_concordance, 2, *bins)
    narrow = (r.astype(np.int32), s.astype(np.int32))  # sorted faster, by a tenth of all
    return float(stats.kendalltau(*narrow, method="asymptotic").statistic), influence


_CORRELATIONS: dict[Correlation, Callable[[Any, Any], tuple[float, Floats]]] = {
    "pearson": _pearson,
    "spearman": _spearman,
    "kendall": _kendall,
}


def _linearised(
    covariance_terms: Callable[[Any, Any], Floats], degree: int, a: Any, b: Any
) -> tuple[float, Floats]:
    """A correlation, cov(a, b) / sqrt(cov(a, a) cov(b, b)), and the influence of each pair on it.

    covariance_terms: one number for each pair, whose mean is the covariance. The covariance is a
    mean over tuples of `degree` pairs, and a term is the mean over those that hold the pair, so
    the influence on the covariance is `degree` times what the term is above the mean.
    """
    cross, self_a, self_b = (covariance_terms(*ab) for ab in ((a, b), (a, a), (b, b)))
    variance_a, variance_b = float(self_a.mean()), float(self_b.mean())
    geometric = math.sqrt(variance_a * variance_b)
    score = float(cross.mean()) / geometric  # exactly 1 for the same numbers twice
    cross = cross / geometric
    return score, degree * (cross - score / 2 * (self_a / variance_a + self_b / variance_b))


def _grade_products(r: Ints, s: Ints) -> Floats:
    """Terms of the covariance of grades: a third from the pair, two from its part in the grades.

    The grade of a pair is the share of pairs below it, so each pair moves the grades of all above.
    """
    if r is s:
        u = _grades(r)
        return np.asarray(u * u + 2 * _own_mean_above(r, u)) / 3
    u, v = _grades(r), _grades(s)
    return np.asarray(u * v + _mean_above(r, v) + _mean_above(s, u)) / 3


def _grades(ranks: Ints) -> Floats:
    """Less their mean, from -1/2 to 1/2."""
    return np.asarray((ranks - (len(ranks) + 1)) / (2 * len(ranks)))


def _own_mean_above(ranks: Ints, grades: Floats) -> Floats:
    """`_mean_above` of the grades themselves, which add up in closed form."""
    tied = np.bincount(ranks)[ranks]
    not_above = (ranks - 1 + tied) / 2
    above = not_above * (1 - not_above / len(ranks)) / 2
    return np.asarray((above + tied * grades / 2) / len(ranks))


def _mean_above(ranks: Ints, weights: Floats) -> Floats:
    """For each pair: the sum of the weights of those above, and half of those tied, over all."""
    totals = np.bincount(ranks, weights, minlength=2 * len(ranks) + 1)
    above = totals[::-1].cumsum()[::-1] - totals / 2
    return np.asarray(above[ranks] / len(ranks))


def _concordance(r: Ints, s: Ints) -> Floats:
    """For each pair: mean over all others of sign(r - r') sign(s - s'), r and s in whole bins."""
    counts = np.bincount(r * _NUM_BINS + s, minlength=_NUM_BINS**2).reshape(_NUM_BINS, _NUM_BINS)
    for axis in (0, 1):  # to those in lower bins less those in higher ones
        counts = 2 * counts.cumsum(axis) - counts - counts.sum(axis, keepdims=True)
    return np.asarray(counts[r, s] / len(r))
