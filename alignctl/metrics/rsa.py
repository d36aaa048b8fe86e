"""Representational similarity analysis: do two spaces put the same images far apart?"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alignctl.metrics.products import CrossProducts, as_features, column_means

DISTANCES = ("cosine", "euclidean", "sqeuclidean")
CORRELATIONS = ("pearson", "spearman", "kendall")


def rsa(
    x: Tensor | np.ndarray[Any, Any],
    y: Tensor | np.ndarray[Any, Any],
    distance: str = "cosine",
    correlation: str = "pearson",
) -> float:
    """Correlation of the dissimilarity matrices of two feature spaces, in [-1, 1].

    x: (n, d1) and y: (n, d2), same images in the same order, n >= 3. distance: cosine, euclidean or
    sqeuclidean. correlation, over the n (n - 1) / 2 pairs: pearson, spearman or kendall (tau-b).
    Cosine with Pearson takes O(d1 d2) memory, in the precision of `linear_cka`; every other
    combination forms all pairs in float64 on the CPU and takes O(n^2) memory.
    Raises ValueError for an unknown name, a zero row under cosine distance (it has no angle),
    features that are not finite, differing numbers of rows, or a space whose distances are equal.
    Source: Kriegeskorte et al. 2008.
    """
    _check_choice("distance", distance, DISTANCES)
    _check_choice("correlation", correlation, CORRELATIONS)
    features = as_features(x, y)
    if len(features[0]) < 3:
        raise ValueError(f"RSA needs at least 3 rows, not {len(features[0])}")
    if distance == "cosine":
        _refuse_zero_rows(features)
        if correlation == "pearson":
            origins = [column_means(space, unit=True) for space in features]
            sums = CrossProducts.measure(features, [(0, 1)], origins, unit=True)
            return rsa_from(sums, 0, 1)
    a, b = (_distances(space, distance) for space in features)
    return _correlate(a, b, correlation)


def rsa_from(unit: CrossProducts, i: int, j: int) -> float:
    """Pearson RSA on cosine distance, in [-1, 1], from sums over at least three unit rows.

    Raises ValueError if all distances within a space are equal, or a row is zero or not finite.
    Source: Kriegeskorte et al. 2008, in closed form (see `_similarity_covariance`).
    """
    if unit.count < 3:
        raise ValueError(f"RSA needs at least 3 rows, not {unit.count}")
    unit.refuse_faults("zero or not finite, so it has no cosine")
    deviations = [math.sqrt(_similarity_variance(unit, k)) for k in (i, j)]
    return _similarity_covariance(unit, i, j) / deviations[0] / deviations[1]


def _similarity_variance(unit: CrossProducts, i: int) -> float:
    variance = _similarity_covariance(unit, i, i)
    # Where all distances are equal, the terms of the covariance cancel down to rounding errors.
    if not variance > unit.resolution * _spread(unit, i) ** 2 / (unit.count - 1):
        raise ValueError(f"features[{i}]: all cosine distances are equal")
    return variance


def _similarity_covariance(unit: CrossProducts, i: int, j: int) -> float:
    """Covariance of the off-diagonal cosines of spaces i and j, times n (n - 1).

    With Zc, Wc the centred unit rows, m, p their means, a = Zc m, b = Wc p and n off-diagonal ones
    taken off, the sum over pairs of z_k.z_l w_k.w_l less the product of the sums is
    |Zc'Wc|_F^2 + 2 n a.b - |Zc|_F^2 |Wc|_F^2 / (n - 1): what grows with the common part of the rows
    has cancelled on paper. As |z| = 1, a is also a combination of the columns z - o and |z - o|^2,
    with small coefficients: (mean of z - o, -1/2).
    """
    cross = unit.centred(i, j)
    row_part = _lever(unit, i) @ cross @ _lever(unit, j)
    spreads = _spread(unit, i) * _spread(unit, j)
    square = cross[:-1, :-1].square().sum()
    return float(square + 2 * unit.count * row_part) - spreads / (unit.count - 1)


def _lever(unit: CrossProducts, i: int) -> Tensor:
    return torch.cat([unit.totals[i][:-1] / unit.count, unit.totals[i].new_tensor([-0.5])])


def _spread(unit: CrossProducts, i: int) -> float:
    """|Zc|_F^2."""
    return float(unit.spread(i)[:-1].sum())


def _check_choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{option}: {value!r} is not known; allowed: {', '.join(allowed)}")


def _refuse_zero_rows(features: list[Tensor]) -> None:
    for name, space in zip("xy", features, strict=True):
        zero = (space == 0).all(dim=1)
        if zero.any():
            row = int(zero.long().argmax())
            raise ValueError(f"{name}, row {row}: all zeros, so it has no cosine")


def _distances(space: Tensor, distance: str) -> np.ndarray[Any, Any]:
    from scipy.spatial.distance import pdist

    return np.asarray(pdist(space.to("cpu", torch.float64).numpy(), metric=distance))


def _correlate(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], correlation: str) -> float:
    from scipy import stats

    for name, distances in (("x", a), ("y", b)):
        if np.all(distances == distances[0]):
            raise ValueError(f"{name}: all distances are equal")
    if correlation == "kendall":
        return float(stats.kendalltau(a, b).statistic)
    if correlation == "spearman":
        a, b = stats.rankdata(a), stats.rankdata(b)
    a, b = a - a.mean(), b - b.mean()
    return float((a / np.linalg.norm(a)) @ (b / np.linalg.norm(b)))
