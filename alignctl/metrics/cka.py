"""Centred kernel alignment: do two feature spaces tell the same images apart?"""

import math
from dataclasses import replace

import torch

from alignctl.metrics import gram
from alignctl.metrics.closed_form import NAMES, from_kernels, score_of
from alignctl.metrics.estimate import Estimate
from alignctl.metrics.pair_sums import MIN_ROWS
from alignctl.metrics.rows import Array, as_features, frame_of


def linear_cka(x: Array, y: Array, debiased: bool = False) -> float:
    """Linear CKA of two feature spaces: in [0, 1]; debiased at most 1, and 0 on average for noise.

    x: (n, d1) and y: (n, d2), same images in the same order, n >= 2, for debiased n >= 4. In
    feature space with O(d1 d2) memory, float32 products and float64 sums (all in float64 where x
    or y is, or where rows are few); by n x n Gram matrices in float64 where 2 n < d1 + d2.
    debiased: HSIC_1 in place of HSIC; may be negative.
    Raises ValueError if either space is constant or not finite, or the rows differ in number.
    Source: Kornblith et al. 2019, |Y'X|_F^2 / (|X'X|_F |Y'Y|_F) on centred columns; Song et al.
    2012, eq. 5, for HSIC_1.
    """
    first, second = as_features(x, y)
    return score_of(first, second, "raw", "debiased" if debiased else "biased")


def rbf_cka(x: Array, y: Array, bandwidth: float = 1.0, debiased: bool = False) -> float:
    """CKA with the Gaussian kernel of width bandwidth times the median distance: in [0, 1].

    As `linear_cka`, but O(n^2 d) time, in blocks of rows, in float64; debiased may be negative.
    Raises ValueError also if half of all pairs of rows are equal.
    Source: Kornblith et al. 2019, section 4.
    """
    return rbf_estimate(x, y, bandwidth, debiased).value


def rbf_estimate(x: Array, y: Array, bandwidth: float = 1.0, debiased: bool = False) -> Estimate:
    """`rbf_cka` with its standard error; the width is taken as given."""
    a, b = (
        gram.rbf_kernel(space, bandwidth, name)
        for space, name in zip(as_features(x, y), NAMES, strict=True)
    )
    return from_kernels(a, b, "debiased" if debiased else "biased")


def minibatch_cka(x: Array, y: Array, batch_size: int) -> float:
    """Debiased linear CKA from averages of HSIC_1 over batches: at most 1; may be negative.

    x: (n, d1) and y: (n, d2); the batches are consecutive rows, an incomplete last one is left
    out. batch_size: 4 to n. The three averages are divided after averaging.
    Raises ValueError as `linear_cka`, and if no batch varies.
    Source: Nguyen et al. 2021, eqs. 2 and 3.
    """
    return minibatch_estimate(x, y, batch_size).value


def minibatch_estimate(x: Array, y: Array, batch_size: int) -> Estimate:
    """`minibatch_cka` with its standard error, by the infinitesimal jackknife over batches."""
    spaces = as_features(x, y)
    if batch_size < MIN_ROWS["debiased"]:
        raise ValueError(f"batch_size must be at least 4, not {batch_size}")
    if len(spaces[0]) < batch_size:
        raise ValueError(f"a batch of {batch_size} needs as many rows, not {len(spaces[0])}")
    frames = [frame_of(space) for space in spaces]
    terms = []
    for start in range(0, len(spaces[0]) - batch_size + 1, batch_size):
        a, b = (
            gram.linear_kernel(space[start : start + batch_size], frame=frame)
            for space, frame in zip(spaces, frames, strict=True)
        )
        values = [
            gram.pair_rows(*pair).sums().value("debiased") for pair in ((a, b), (a, a), (b, b))
        ]
        terms.append(values)
    estimate = _ratio_of_means(torch.tensor(terms, dtype=torch.float64))
    return replace(estimate, num_images=len(terms) * batch_size)


def _ratio_of_means(terms: torch.Tensor) -> Estimate:
    """terms: (num_batches, 3), HSIC_1 of x and y, x and x, y and y."""
    cross, self_x, self_y = terms.mean(dim=0).tolist()
    for name, value in (("x", self_x), ("y", self_y)):
        if not value > 0:
            raise ValueError(f"{name}: no batch varies")
    geometric = math.sqrt(self_x) * math.sqrt(self_y)
    score = cross / geometric
    pull = (terms[:, 0] - cross) / geometric
    pull -= score / 2 * (terms[:, 1] / self_x + terms[:, 2] / self_y - 2)
    error = float(pull.square().mean().sqrt()) / math.sqrt(len(terms))
    return Estimate(score, error if len(terms) > 1 else None)
