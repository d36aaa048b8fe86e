"""CKA and Pearson RSA of two spaces that are in memory, by whichever form is the smaller."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from alignctl.metrics.inference.estimate import Estimate
from alignctl.metrics.inference.jackknife import MIN_IMAGES, Strata, jackknife_estimate, of_few
from alignctl.metrics.sums import gram
from alignctl.metrics.sums.pair_sums import Statistic, influence, spread_of
from alignctl.metrics.sums.products import CrossProducts, Pair, resolution_of
from alignctl.metrics.sums.rows import Kind, frame_of

Form = Literal["features", "gram"]

NAMES = ("x", "y")
# Where less than this share of the terms is left, float32 products have too few digits.
_WORTH_FLOAT64 = 0.1
# The variance of the squared lengths over their squared mean: 2 / d for Gaussian rows.
_HEAVY_TAIL = 16
_ROUNDING = 1e-12  # of a score in float64, with room


def score_of(
    x: Tensor, y: Tensor, kind: Kind, statistic: Statistic, form: Form | None = None
) -> float:
    """One score of x (n, d1) and y (n, d2); the form is chosen by size unless given.

    Raises ValueError, naming x or y, where there is no score.
    """
    if form is None:
        form = "gram" if gram.gram_is_smaller(len(x), x.shape[1], y.shape[1]) else "features"
    if form == "gram":
        kernels = linear_kernels(x, y, kind)
        return from_kernels(*kernels, statistic, with_error=False).value
    spaces = [x, y]
    frames = [frame_of(space, kind) for space in spaces]
    sums = CrossProducts.measure(spaces, [(0, 1)], frames, NAMES)
    if is_too_coarse(sums, statistic, [(0, 1)]):
        wide = [space.double() for space in spaces]
        sums = CrossProducts.measure(wide, [(0, 1)], frames, NAMES)
    return sums.spread(statistic, 0, 1).score


def is_too_coarse(sums: CrossProducts, statistic: Statistic, pairs: Sequence[Pair]) -> bool:
    """Whether float32 products left so few digits that float64 is worth its price.

    So where terms cancel, where few images hold most of the squared lengths, so that the others are
    lost or rounded alike when they are added to those, and where a score came out above 1.
    """
    return sums.is_float32 and any(_is_coarse(sums, statistic, pair) for pair in pairs)


def _is_coarse(sums: CrossProducts, statistic: Statistic, pair: Pair) -> bool:
    if any(sums.has_fault(i) for i in pair):
        return False  # no precision gives such rows a score
    try:
        for i in pair:
            own = sums.pair_sums(i, i)
            if not own.remains(statistic) >= _WORTH_FLOAT64:
                return True
            if own.count * own.norms > _HEAVY_TAIL * own.norm_x**2:
                return True
        return abs(sums.spread(statistic, *pair).score) > 1 + _ROUNDING
    except ValueError:  # float64 may know more
        return True


def linear_kernels(
    x: Tensor, y: Tensor, kind: Kind
) -> tuple[gram.CentredKernel, gram.CentredKernel]:
    """Inner products of the rows of both; ValueError, naming x or y, for a row without them."""
    return gram.linear_kernel(x, kind, NAMES[0]), gram.linear_kernel(y, kind, NAMES[1])


def from_kernels(
    x: gram.CentredKernel,
    y: gram.CentredKernel,
    statistic: Statistic,
    *,
    with_error: bool = True,
    strata: Strata | None = None,
) -> Estimate:
    """One score of two kernel matrices of the same images, with its standard error.

    strata: the classes of the images whose numbers are taken as given; None for none.
    Raises ValueError, naming x or y, where there is no score.
    """
    rows = [gram.pair_rows(x, y), x.own_rows, y.own_rows]
    sums = [part.sums() for part in rows]
    resolution = resolution_of(torch.float64)
    spread = spread_of(statistic, *sums, resolution=resolution, names=NAMES)
    if not with_error:
        return Estimate(spread.score)
    if x.count < MIN_IMAGES:
        return of_few(spread.score, x.count)
    strata = strata or Strata.single(x.count)
    pulls = influence(statistic, spread, *zip(rows, sums, strict=True))
    return jackknife_estimate(spread.score, strata.sums(pulls), kind=strata.kind)
