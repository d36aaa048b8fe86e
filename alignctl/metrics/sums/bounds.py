"""How low CKA and RSA can be, given how far two similarity matrices are apart."""

import math
from dataclasses import dataclass

from alignctl.metrics.sums.pair_sums import PairSums, refuse_few_rows


@dataclass(frozen=True)
class AlignmentBounds:
    """Distances of model b's cosines from model a's, and the scores that they guarantee."""

    rho: float
    """|K_a - K_b|_F / |K_a|_F of the centred cosine similarity matrices."""
    cka_at_least: float
    """(1 - rho) / (1 + rho): of biased CKA with the cosine kernel; says nothing below 0."""
    r: float
    """|b - a|_2 / |a - mean a|_2 of the cosine distances over all pairs of images."""
    rsa_at_least: float
    """(1 - r) / (1 + r): of RSA on cosine distance where r <= 1; says nothing below 0."""


def bounds_from(
    cross: PairSums,
    self_a: PairSums,
    self_b: PairSums,
    *,
    resolution: float,
    names: tuple[str, str] = ("x", "y"),
) -> AlignmentBounds:
    """The bounds from the sums of two spaces of unit rows.

    resolution: relative size below which what is left of sums that cancel is rounding; such
    squares of rho and r read as 0.
    Raises ValueError if the cosines of either space do not vary.
    Source: arXiv 2510.08852, from the triangle inequality.
    """
    refuse_few_rows("distances", cross.count)
    for name, sums in zip(names, (self_a, self_b), strict=True):
        if not sums.remains("distances") > resolution:
            raise ValueError(f"{name}: all cosine distances are equal, to rounding")
    n, spread = self_a.count, self_a.value("distances")
    size = max(sums.largest_term for sums in (cross, self_a, self_b))
    size = max(size, n / 2 * self_a.norms, n / 2 * self_b.norms)
    kernels = self_a.square - 2 * cross.square + self_b.square
    shapes = spread - 2 * cross.value("distances") + self_b.value("distances")
    means = n / (n - 1) * (self_a.norm_x - self_b.norm_x) ** 2
    rho = _root(kernels, resolution * size) / math.sqrt(self_a.square)
    r = _root(shapes + means, resolution * size) / math.sqrt(spread)
    return AlignmentBounds(rho, (1 - rho) / (1 + rho), r, (1 - r) / (1 + r))


def _root(square: float, rounding: float) -> float:
    return 0.0 if abs(square) <= rounding else math.sqrt(square)
