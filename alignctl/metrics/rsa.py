"""Representational similarity analysis: do two spaces put the same images far apart?"""

from typing import get_args

from alignctl.config.metric_configs import Correlation, Distance
from alignctl.metrics.arguments import check_choice, check_whole
from alignctl.metrics.inference.closed_form import score_of
from alignctl.metrics.pairs import pair_rsa
from alignctl.metrics.sums.rows import KIND_OF_DISTANCE, Array, as_features


def rsa(
    x: Array,
    y: Array,
    distance: Distance = "cosine",
    correlation: Correlation = "pearson",
    *,
    pairs: int = 10_000_000,
    seed: int = 0,
) -> float:
    """Correlation of the dissimilarity matrices of two feature spaces, in [-1, 1].

    x: (n, d1) and y: (n, d2), same images in the same order, n >= 3. distance: cosine, correlation,
    sqeuclidean or euclidean. correlation, over the n (n - 1) / 2 pairs of images: pearson, spearman
    or kendall (tau-b); in ranks, distances that differ by no more than rounding are ties. Pearson
    with any distance but euclidean is exact for every n, in the time, memory and precision of
    `linear_cka`; all else takes the pairs themselves, in float64, exact up to so many `pairs`, and
    above on a sample of them drawn by `seed`.
    Raises ValueError for an unknown name, a zero row under cosine distance or a constant one under
    correlation distance (they have no angle), features that are not finite, differing numbers of
    rows, or a space whose distances are equal.
    Source: Kriegeskorte et al. 2008; for Pearson in closed form: docs/metrics.md.
    """
    check_choice("distance", distance, get_args(Distance))
    check_choice("correlation", correlation, get_args(Correlation))
    check_whole("pairs", pairs, at_least=1)
    check_whole("seed", seed)
    first, second = as_features(x, y)
    if correlation == "pearson" and distance in KIND_OF_DISTANCE:
        return score_of(first, second, KIND_OF_DISTANCE[distance], "distances")
    return pair_rsa(
        first,
        second,
        distance=distance,
        correlation=correlation,
        max_pairs=pairs,
        seed=seed,
    ).value
