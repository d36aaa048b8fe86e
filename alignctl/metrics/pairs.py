"""RSA from the pairs of images themselves, for where sums over images do not suffice."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignctl.config.metrics import Correlation, Distance
from alignctl.metrics import pair_errors
from alignctl.metrics.estimate import Estimate
from alignctl.metrics.jackknife import Strata
from alignctl.metrics.rows import KIND_OF_DISTANCE, NO_DIRECTION
from alignctl.randomness import uniforms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK = 2**23  # numbers that are held in float64 at a time
_NUM_BINS = 512  # of the distances, for the standard error of Kendall's tau: three digits
_ROUNDING = 1e-13  # relative to the largest distance, or to the length 1 of rows that we divide by


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
    kendall: tau-b. All n (n - 1) / 2 pairs if these are no more than `max_pairs`. Else a random
    permutation of the images is cut into groups of g, g >= 2 with n (g - 1) / 2 <= max_pairs, and
    all pairs within groups are compared: every image in g - 1 pairs, but for up to g - 1 images
    that fill no group. Memory: O(number of pairs), and the rows of one group.
    The standard error is that of drawing other images, of the same numbers in the classes of
    `strata` where these are given, and other pairs where they are sampled: see `pair_errors`.
    Raises ValueError for n < 3, fewer pairs than n / 2, a row without a direction, or a space whose
    distances are equal.
    Source: Kriegeskorte et al. 2008; variance of sums over pairs as in Aronow et al. 2015.
    """
    if len(x) < 3:
        raise ValueError(f"RSA needs at least 3 rows, not {len(x)}")
    if 2 * max_pairs < len(x):
        raise ValueError(f"pairs={max_pairs} is less than half of {len(x)} images")
    groups = balanced_groups(len(x), max_pairs, seed)
    a, b = (_distances(space, name, groups, distance) for name, space in (("x", x), ("y", y)))
    value, influence = _CORRELATIONS[correlation](a, b)
    compared = pair_errors.Compared(groups, strata or Strata.single(len(x)))
    exact = correlation == "pearson"
    pulls = pair_errors.pearson_pulls(a - a.mean(), b - b.mean(), compared) if exact else None
    return pair_errors.estimate(value, influence, pulls, compared)


def balanced_groups(num_images: int, max_pairs: int, seed: int) -> Ints:
    """Images to be compared with each other: (num_groups, size), each row ascending.

    No image twice; fewer than `size` are left out. One group of all if `max_pairs` allows it.
    """
    largest = min(max(2 * max_pairs // num_images + 1, 2), num_images)
    sizes = np.arange(2, largest + 1)
    # A little less than the largest may leave out far fewer images, and so give more pairs.
    size = int(sizes[np.argmax(num_images // sizes * sizes * (sizes - 1))])
    draws = uniforms(
        seed, "pairs", epoch=0, samples=np.arange(num_images), view=0, num_draws=1
    ).ravel()
    order = np.argsort(draws, kind="stable")[: num_images // size * size]
    return np.sort(order.reshape(-1, size), axis=1)


def _distances(space: Tensor, name: str, groups: Ints, distance: Distance) -> Floats:
    """Of all pairs within groups, group after group: (num_groups * size * (size - 1) / 2,)."""
    from scipy.spatial.distance import pdist

    size = groups.shape[1]
    squares = np.zeros((len(groups), size * (size - 1) // 2))
    step = max(1, _BLOCK // (size * space.shape[1]))
    for start in range(0, len(groups), step):
        images = groups[start : start + step]
        rows = space.detach()[torch.from_numpy(images.ravel()).to(space.device)]
        for columns in _prepared(rows, name, images.ravel(), distance):
            # Differences before products: exact under any offset, and equal rows give equal sums.
            for i, group in enumerate(columns.reshape(len(images), size, -1), start):
                squares[i] += pdist(group, metric="sqeuclidean")
    _refuse_equal(squares, name, unit=distance in {"cosine", "correlation"})
    if distance == "euclidean":
        return np.sqrt(squares).ravel()
    return (squares if distance == "sqeuclidean" else squares / 2).ravel()


def _prepared(rows: Tensor, name: str, images: Ints, distance: Distance) -> Iterator[Floats]:
    """The rows between which a squared length is the distance, some columns at a time.

    With unit rows z and w, cosine distance is |z - w|^2 / 2: no digits go where they are parallel.
    """
    scale = None
    if distance in {"cosine", "correlation"}:
        blocks = torch.split(rows, max(1, _BLOCK // rows.shape[1]))
        frames = [_frame(block.to("cpu", torch.float64), distance) for block in blocks]
        shift, scale = (torch.cat(parts) for parts in zip(*frames, strict=True))
        _refuse_directionless(scale, name, images, distance)
    for block in torch.split(rows, max(1, _BLOCK // len(rows)), dim=1):
        columns = block.to("cpu", torch.float64)
        yield (columns if scale is None else (columns - shift) / scale).numpy()


def _frame(rows: Tensor, distance: Distance) -> tuple[Tensor, Tensor]:
    """What to take off each row, and its length then, 0 if it has no direction: (m, 1) each."""
    shift = rows.new_zeros(len(rows), 1)
    if distance == "correlation":
        shift = rows.mean(dim=1, keepdim=True)
        # The mean of equal numbers may be off by rounding.
        shift = torch.where((rows == rows[:, :1]).all(dim=1, keepdim=True), rows[:, :1], shift)
    return shift, torch.linalg.vector_norm(rows - shift, dim=1, keepdim=True)


def _refuse_directionless(lengths: Tensor, name: str, images: Ints, distance: Distance) -> None:
    faults = images[(lengths.ravel() == 0).numpy()]
    if len(faults):
        problem = NO_DIRECTION[KIND_OF_DISTANCE[distance]]
        raise ValueError(f"{name}, row {faults.min()}: {problem}")


def _refuse_equal(squares: Floats, name: str, *, unit: bool) -> None:
    low, high = math.sqrt(squares.min()), math.sqrt(squares.max())
    if not high - low > _ROUNDING * max(high, float(unit)):
        raise ValueError(f"{name}: all distances are equal")


def _pearson(a: Floats, b: Floats) -> tuple[float, Floats]:
    return _linearised(np.multiply, 1, a - a.mean(), b - b.mean())


def _spearman(a: Floats, b: Floats) -> tuple[float, Floats]:
    return _linearised(_grade_products, 3, _doubled_ranks(a), _doubled_ranks(b))


def _kendall(a: Floats, b: Floats) -> tuple[float, Floats]:
    from scipy import stats

    r, s = _doubled_ranks(a), _doubled_ranks(b)
    bins = [(ranks - 1) * _NUM_BINS // (2 * len(ranks)) for ranks in (r, s)]
    _, influence = _linearised(_concordance, 2, *bins)
    return float(stats.kendalltau(r, s, method="asymptotic").statistic), influence


_CORRELATIONS: dict[Correlation, Callable[[Floats, Floats], tuple[float, Floats]]] = {
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
    cross = cross / math.sqrt(variance_a) / math.sqrt(variance_b)
    score = float(cross.mean())
    return score, degree * (cross - score / 2 * (self_a / variance_a + self_b / variance_b))


def _doubled_ranks(values: Floats) -> Ints:
    """Twice the ranks from 1, so that ties, which share their mean rank, have whole numbers."""
    order = np.argsort(values)
    ordered = values[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    end = np.append(first[1:], len(values))
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.repeat(first + 1 + end, end - first)
    return ranks


def _grade_products(r: Ints, s: Ints) -> Floats:
    """Terms of the covariance of grades: a third from the pair, two from its part in the grades.

    The grade of a pair is the share of pairs below it, so each pair moves the grades of all above.
    """
    u, v = ((ranks - (len(ranks) + 1)) / (2 * len(ranks)) for ranks in (r, s))
    return np.asarray(u * v + _mean_above(r, v) + _mean_above(s, u)) / 3


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
