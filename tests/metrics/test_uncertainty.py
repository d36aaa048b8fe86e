"""Simulations: how often do nominal 95 % intervals hold what they are intervals of?"""

import functools

import pytest
import torch

from alignctl.metrics import Moments, compare
from alignctl.metrics.rows import KINDS

NUM_IMAGES = 500
REPEATS = 700
TRUTH_IMAGES = 300_000
METRICS = ["cka", "cka hsic=debiased", "rsa", "rsa distance=sqeuclidean",
           "rsa distance=correlation"]  # fmt: skip
# Widths of the two spaces: narrow, where biased CKA has little bias, and usual.
DIMS = [(4, 3), (30, 20)]
LOW, HIGH = 0.92, 0.97


def make_source(dims):
    """A function of (n, seed): Gaussian factors behind two spaces, seen with noise and offsets."""
    generator = torch.Generator().manual_seed(7)
    factors = [torch.randn(4, d, generator=generator, dtype=torch.float64) for d in dims]
    offsets = [0.3 * torch.randn(d, generator=generator, dtype=torch.float64) for d in dims]

    def draw(num_images, seed):
        generator = torch.Generator().manual_seed(seed)
        shared = torch.randn(num_images, 4, generator=generator, dtype=torch.float64)
        return [
            shared @ a + o + torch.randn(num_images, len(o), generator=generator, dtype=o.dtype)
            for a, o in zip(factors, offsets, strict=True)
        ]

    return draw


def true_scores(draw):
    chunks = (draw(30_000, 10**6 + number) for number in range(TRUTH_IMAGES // 30_000))
    moments = Moments.measure_all(chunks, [(0, 1)], Moments.origins_of(draw(1000, 10**6), KINDS))
    assert moments.count == TRUTH_IMAGES
    return [
        moments.linear_cka(0, 1),
        moments.linear_cka(0, 1, debiased=True),
        moments.rsa(0, 1),
        moments.rsa(0, 1, distance="sqeuclidean"),
        moments.rsa(0, 1, distance="correlation"),
    ]


@functools.cache
def misses(dims):
    """(REPEATS, number of metrics): how many half-widths of its interval the truth is away."""
    draw = make_source(dims)
    truths = true_scores(draw)
    found = []
    for seed in range(REPEATS):
        scores = compare(*draw(NUM_IMAGES, seed), METRICS)
        found.append(
            [
                abs(score.value - truth) / ((score.ci_high - score.ci_low) / 2)
                for score, truth in zip(scores, truths, strict=True)
            ]
        )
    return torch.tensor(found)


def coverage(dims, metric, factor=1.0):
    """Share of intervals that hold the truth, with standard errors this many times as large."""
    return float((misses(dims)[:, METRICS.index(metric)] <= factor).double().mean())


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("metric", METRICS)
def test_nominal_95_percent_intervals_hold_the_truth_as_often(metric, dims):
    assert LOW <= coverage(dims, metric) <= HIGH


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_standard_error_half_or_twice_as_large_would_be_noticed(metric, dims):
    assert coverage(dims, metric, 0.5) < LOW - 0.1
    assert coverage(dims, metric, 2.0) > HIGH + 0.01
