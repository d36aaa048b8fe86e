"""CKA and Pearson RSA of two spaces that are in memory, by whichever form is the smaller."""

from typing import Literal

import torch
from torch import Tensor

from alignctl.metrics import gram
from alignctl.metrics.estimate import Estimate
from alignctl.metrics.jackknife import MIN_IMAGES, Strata, jackknife_estimate, of_few
from alignctl.metrics.pair_sums import Statistic, influence, spread_of
from alignctl.metrics.products import CrossProducts, resolution_of
from alignctl.metrics.rows import Kind, frame_of

Form = Literal["features", "gram"]

NAMES = ("x", "y")
# Where less than this share of the terms is left, float32 products have too few digits.
_WORTH_FLOAT64 = 0.1


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
    if cancels(sums, statistic):
        wide = [space.double() for space in spaces]
        sums = CrossProducts.measure(wide, [(0, 1)], frames, NAMES)
    return sums.spread(statistic, 0, 1).score


def cancels(sums: CrossProducts, statistic: Statistic) -> bool:
    """Whether the terms of a space with itself cancel so far that float64 is worth its price."""
    spaces = range(len(sums.names))
    return sums.is_float32 and any(
        sums.pair_sums(i, i).remains(statistic) < _WORTH_FLOAT64 for i in spaces
    )


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
    rows = [gram.pair_rows(a, b) for a, b in ((x, y), (x, x), (y, y))]
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
