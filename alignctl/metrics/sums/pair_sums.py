"""What CKA and RSA of two spaces are made of, whichever way it was computed.

Let x_i and y_i be the rows of two spaces less their mean, K_ij = x_i.x_j and L_ij = y_i.y_j,
e_i = |x_i|^2 and f_i = |y_i|^2, q_x and q_y their sums. Three statistics of a pair of spaces,

    biased      sum over i, j of K_ij L_ij                                      (HSIC, times n^2)
    debiased    the same over i != j, K and L U-centred               (HSIC_1, times n (n - 3))
    distances   covariance of |x_i - x_j|^2 and |y_i - y_j|^2 over i != j  (times n (n - 1) / 4)

depend on F = |X'Y|_F^2, q_x, q_y and k = sum of (e_i - mean e) (f_i - mean f) alone:

    biased = F,  debiased = F - q_x q_y / (n - 1) - n k / (n - 2),
    distances = F - q_x q_y / (n - 1) + n k / 2.

A score is the statistic of the two spaces over the geometric mean of each with itself.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from alignctl.metrics.inference.jackknife import GONE

Statistic = Literal["biased", "debiased", "distances"]
Real = TypeVar("Real", float, Tensor)

MIN_ROWS: dict[Statistic, int] = {"biased": 2, "debiased": 4, "distances": 3}
_NAMES: dict[Statistic, str] = {
    "biased": "CKA", "debiased": "debiased CKA", "distances": "RSA",
}  # fmt: skip
_DEGENERATE: dict[Statistic, str] = {
    "biased": "every row is the same",
    "debiased": "all rows are equally far from each other",
    "distances": "all distances are equal",
}


@dataclass(frozen=True)
class PairSums:
    """F, q_x, q_y and k of two spaces; of a space with itself, q_x = q_y."""

    count: int
    """n, the number of rows."""
    square: float
    """F."""
    norm_x: float
    """q_x."""
    norm_y: float
    """q_y."""
    norms: float
    """k."""

    def value(self, statistic: Statistic) -> float:
        """The statistic; for `debiased` and `distances` it may be negative."""
        n = self.count
        return _value(statistic, n, self.square, self.norm_x * self.norm_y, self.norms)

    @property
    def largest_term(self) -> float:
        """Of those that a statistic adds and subtracts: rounding is a small share of it."""
        return max(self.square, self.norm_x * self.norm_y / (self.count - 1), abs(self.norms))

    def remains(self, statistic: Statistic) -> float:
        """What is left of the statistic's largest term after its terms have cancelled."""
        size = self.largest_term
        return self.value(statistic) / size if size > 0 else 0.0


@dataclass(frozen=True)
class Spread:
    """The statistics that one score is made of."""

    cross: float
    self_x: float
    self_y: float

    @property
    def score(self) -> float:
        """Cross over the geometric mean of the others: 1 for the same space twice."""
        return self.cross / math.sqrt(self.self_x * self.self_y)  # exactly 1: sqrt(a a) is a


def refuse_few_rows(statistic: Statistic, count: int) -> None:
    """Raise ValueError unless there are enough rows for the statistic to mean anything."""
    if count < MIN_ROWS[statistic]:
        raise ValueError(
            f"{_NAMES[statistic]} needs at least {MIN_ROWS[statistic]} rows, not {count}"
        )


def spread_of(
    statistic: Statistic,
    cross: PairSums,
    self_x: PairSums,
    self_y: PairSums,
    *,
    resolution: float,
    names: tuple[str, str] = ("x", "y"),
) -> Spread:
    """The three values of a statistic, checked.

    resolution: relative size, of what is left where terms cancel, below which it is rounding.
    Raises ValueError for too few rows, or a space with nothing left: no score exists, or not even
    float64 knows it.
    """
    refuse_few_rows(statistic, cross.count)
    for name, sums in zip(names, (self_x, self_y), strict=True):
        if not sums.remains(statistic) > resolution:
            raise ValueError(f"{name}: {_DEGENERATE[statistic]}, to rounding")
    return Spread(*(sums.value(statistic) for sums in (cross, self_x, self_y)))


@dataclass(frozen=True, eq=False)
class PairRows:
    """What each image adds to the sums of a pair of spaces; for all images or some of them."""

    squares: Tensor
    """g_i = sum over j of K_ij L_ij: (m,), float64, as all below."""
    levers_x: Tensor
    """x_i.(sum over j of f_j x_j)."""
    levers_y: Tensor
    """y_i.(sum over j of e_j y_j)."""
    lengths_x: Tensor
    """e_i."""
    lengths_y: Tensor
    """f_i."""

    def sums(self) -> PairSums:
        """The sums over these images, which must be all of them."""
        e, f = self.lengths_x, self.lengths_y
        covariance = ((e - e.mean()) * (f - f.mean())).sum()
        values = torch.stack([self.squares.sum(), e.sum(), f.sum(), covariance]).tolist()
        return PairSums(len(e), *values)

    def without_one(self, statistic: Statistic, sums: PairSums) -> Tensor:
        """The statistic of all images but one, for each of these: (m,).

        The mean of the others is x_i / (n - 1) away from that of all, which moves their inner
        products and lengths; what this changes in F, q_x, q_y and k follows from the rows' sums.
        """
        others = sums.count - 1
        e, f, share = self.lengths_x, self.lengths_y, sums.count / others
        square = sums.square - 2 * share * self.squares + share**2 * e * f
        if statistic == "biased":
            return square
        norms = (sums.norm_x - share * e) * (sums.norm_y - share * f)
        both = sums.norms + sums.norm_x * sums.norm_y / sums.count - e * f  # sum of e_j f_j
        both = both + 2 * (self.levers_x + self.levers_y - 2 * e * f) / others
        both += (4 * (self.squares - e * f) + e * sums.norm_y + f * sums.norm_x) / others**2
        both -= 2 * e * f / others**2 + 3 * e * f / others**3
        return _value(statistic, others, square, norms, both - norms / others)


def _value(statistic: Statistic, count: int, square: Real, norms: Real, covariance: Real) -> Real:
    """The statistic from F, q_x q_y and k: numbers, or one of each for every image left out."""
    if statistic == "biased":
        return square
    weight = -count / (count - 2) if statistic == "debiased" else count / 2
    return square - norms / (count - 1) + weight * covariance


def influence(
    statistic: Statistic,
    spread: Spread,
    cross: tuple[PairRows, PairSums],
    self_x: tuple[PairRows, PairSums],
    self_y: tuple[PairRows, PairSums],
) -> Tensor:
    """How far each image pulls the score, times n: (m,), float64, for `jackknife.standard_error`.

    (n - 1) (score - score without the image), the latter exact. The derivative of the score by the
    weight of an image is the same to first order, but falls short where single images weigh much.
    nan where the others have no score: a space does not vary without the image, to rounding.
    Source: Quenouille 1956, Tukey 1958.
    """
    a, b, c = (rows.without_one(statistic, sums) for rows, sums in (cross, self_x, self_y))
    # Divided as the score itself: two spaces that are one have influences of exactly 0.
    a = a / (_varying(b, spread.self_x) * _varying(c, spread.self_y)).sqrt()
    return (cross[1].count - 1) * (spread.score - a)


def _varying(without: Tensor, whole: float) -> Tensor:
    return torch.where(without > GONE * whole, without, torch.nan)
