"""Centred kernel alignment: do two feature spaces tell the same images apart?"""

import math
from dataclasses import replace

import numpy as np
import torch

from alignctl.metrics.arguments import check_flag, check_positive, check_whole
from alignctl.metrics.inference.closed_form import NAMES, from_kernels, score_of
from alignctl.metrics.inference.estimate import Estimate
from alignctl.metrics.sums import gram
from alignctl.metrics.sums.pair_sums import MIN_ROWS
from alignctl.metrics.sums.rows import Array, as_features, frame_of
from alignctl.randomness import uniforms

# Of ten collapsed classes in batches of 8, nominal 95 % intervals held the truth 82 to 88 % of the
# time with 2 to 10 batches and 94 % with 20: see tests/metrics/test_coverage.py.
_MIN_BATCHES = 20


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
    check_flag("debiased", debiased)
    first, second = as_features(x, y)
    return score_of(first, second, "raw", "debiased" if debiased else "biased")


def rbf_cka(x: Array, y: Array, bandwidth: float = 1.0, debiased: bool = False) -> float:
    """CKA with the Gaussian kernel of width bandwidth times the median distance: in [0, 1].

    As `linear_cka`, but O(n^2 d) time, in blocks of rows, in float64; debiased may be negative.
    Raises ValueError also if half of all pairs of rows are equal.
    Source: Kornblith et al. 2019, section 4.
    """
    check_flag("debiased", debiased)
    check_positive("bandwidth", bandwidth)
    a, b = (
        gram.rbf_kernel(space, bandwidth, name)
        for space, name in zip(as_features(x, y), NAMES, strict=True)
    )
    return from_kernels(a, b, "debiased" if debiased else "biased", with_error=False).value


def minibatch_cka(x: Array, y: Array, batch_size: int, *, seed: int = 0) -> float:
    """Debiased linear CKA from averages of HSIC_1 over batches: at most 1; may be negative.

    x: (n, d1) and y: (n, d2). batch_size: 4 to n. The batches are drawn by `seed`: a random order
    of the rows is cut into them, and what fills no batch is left out. The three averages are
    divided after averaging.
    Raises ValueError as `linear_cka`, and if no batch varies.
    Source: Nguyen et al. 2021, eqs. 2 and 3.
    """
    return minibatch_estimate(x, y, batch_size, seed=seed).value


def minibatch_estimate(x: Array, y: Array, batch_size: int, *, seed: int = 0) -> Estimate:
    """`minibatch_cka` with its standard error, by leaving out one batch at a time."""
    check_whole("batch_size", batch_size, at_least=MIN_ROWS["debiased"])
    check_whole("seed", seed)
    spaces = as_features(x, y)
    if len(spaces[0]) < batch_size:
        raise ValueError(f"a batch of {batch_size} needs as many rows, not {len(spaces[0])}")
    frames = [frame_of(space) for space in spaces]
    terms = []
    for batch in _batches(len(spaces[0]), batch_size, seed=seed):
        a, b = (
            gram.linear_kernel(space[batch.to(space.device)], frame=frame)
            for space, frame in zip(spaces, frames, strict=True)
        )
        values = [
            gram.pair_rows(*pair).sums().value("debiased") for pair in ((a, b), (a, a), (b, b))
        ]
        terms.append(values)
    estimate = _ratio_of_means(torch.tensor(terms, dtype=torch.float64))
    return replace(estimate, num_images=len(terms) * batch_size)


def _batches(num_rows: int, batch_size: int, *, seed: int) -> torch.Tensor:
    """Rows of each batch: (num_batches, batch_size); files are often in the order of classes."""
    draws = uniforms(seed, "minibatches", epoch=0, samples=np.arange(num_rows), view=0, num_draws=1)
    order = np.argsort(draws[:, 0], kind="stable")
    return torch.from_numpy(order[: num_rows // batch_size * batch_size].reshape(-1, batch_size))


def _ratio_of_means(terms: torch.Tensor) -> Estimate:
    """terms: (num_batches, 3), HSIC_1 of x and y, x and x, y and y."""
    cross, self_x, self_y = terms.mean(dim=0).tolist()
    for name, value in (("x", self_x), ("y", self_y)):
        if not value > 0:
            raise ValueError(f"{name}: no batch varies")
    geometric = math.sqrt(self_x * self_y)
    score = cross / geometric
    if len(terms) < _MIN_BATCHES:
        few = f"it takes {_MIN_BATCHES} batches, not {len(terms)}"
        return Estimate(score, no_interval=few)
    # Without one batch; a space with itself may have less than nothing left, which has no root.
    a, b, c = (terms.sum(dim=0) - terms).T
    if not bool(((b > 0) & (c > 0)).all()):
        return Estimate(score, no_interval="without one of the batches there is no score")
    without = a / (b * c).sqrt()
    others = len(terms) - 1
    squares = float((without - without.mean()).square().sum())
    error = math.sqrt(others / len(terms) * squares)
    return Estimate(score, error, degrees_of_freedom=others, interval_kind="batches")
