"""Simulations: how often do nominal 95 % intervals hold what they are intervals of?"""

import functools
from dataclasses import dataclass
from typing import get_args

import pytest
import torch

from alignctl.metrics import Moments, compare
from alignctl.metrics.sums.rows import Kind

KINDS = get_args(Kind)

NUM_IMAGES = 500
CHUNK = 30_000
METRICS = ["cka", "cka hsic=debiased", "rsa", "rsa distance=sqeuclidean",
           "rsa distance=correlation"]  # fmt: skip


@dataclass(frozen=True)
class Simulation:
    """Widths of the two spaces, and what a share of intervals that hold the truth may be."""

    dims: tuple[int, int]
    repeats: int = 700
    truth_images: int = 300_000
    low: float = 0.92
    high: float = 0.97


# 0.95, less and more three standard deviations of the share
FAST = Simulation((30, 20), repeats=150, truth_images=60_000, low=0.90, high=0.985)
# narrow, where biased CKA has little bias, and usual
FULL = [Simulation((4, 3)), Simulation((30, 20))]
EVERY_SIMULATION = pytest.mark.parametrize(
    "simulation",
    [FAST, *(pytest.param(each, marks=pytest.mark.soak) for each in FULL)],
    ids=lambda each: f"{each.dims[0]}x{each.dims[1]}-{each.repeats}",
)


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


def true_scores(draw, num_images):
    chunks = (draw(CHUNK, 10**6 + number) for number in range(num_images // CHUNK))
    moments = Moments.measure_all(chunks, [(0, 1)], Moments.origins_of(draw(1000, 10**6), KINDS))
    assert moments.count == num_images
    return [
        moments.linear_cka(0, 1),
        moments.linear_cka(0, 1, debiased=True),
        moments.rsa(0, 1),
        moments.rsa(0, 1, distance="sqeuclidean"),
        moments.rsa(0, 1, distance="correlation"),
    ]


@functools.cache
def misses(simulation):
    """(repeats, number of metrics): how many half-widths of its interval the truth is away."""
    draw = make_source(simulation.dims)
    truths = true_scores(draw, simulation.truth_images)
    found = []
    for seed in range(simulation.repeats):
        scores = compare(*draw(NUM_IMAGES, seed), METRICS)
        found.append(
            [
                abs(score.value - truth) / ((score.ci_high - score.ci_low) / 2)
                for score, truth in zip(scores, truths, strict=True)
            ]
        )
    return torch.tensor(found)


def coverage(simulation, metric, factor=1.0):
    """Share of intervals that hold the truth, with standard errors this many times as large."""
    return float((misses(simulation)[:, METRICS.index(metric)] <= factor).double().mean())


@EVERY_SIMULATION
@pytest.mark.parametrize("metric", METRICS)
def test_nominal_95_percent_intervals_hold_the_truth_as_often(metric, simulation):
    assert simulation.low <= coverage(simulation, metric) <= simulation.high


@EVERY_SIMULATION
@pytest.mark.parametrize("metric", METRICS)
def test_a_standard_error_half_or_twice_as_large_would_be_noticed(metric, simulation):
    assert coverage(simulation, metric, 0.5) < simulation.low - 0.1
    assert coverage(simulation, metric, 2.0) > simulation.high + 0.01
