import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignctl.metrics import Moments, linear_cka, rsa
from alignctl.metrics.rows import KINDS

SCORES = {
    "biased CKA": linear_cka,
    "debiased CKA": lambda x, y: linear_cka(x, y, debiased=True),
    "cosine": rsa,
    "sqeuclidean": lambda x, y: rsa(x, y, "sqeuclidean"),
    "correlation": lambda x, y: rsa(x, y, "correlation"),
}
MOMENTS = {
    "biased CKA": lambda moments: moments.linear_cka(0, 1),
    "debiased CKA": lambda moments: moments.linear_cka(0, 1, debiased=True),
    "cosine": lambda moments: moments.rsa(0, 1),
    "sqeuclidean": lambda moments: moments.rsa(0, 1, distance="sqeuclidean"),
    "correlation": lambda moments: moments.rsa(0, 1, distance="correlation"),
}
EVERY_SCORE = pytest.mark.parametrize("name", SCORES)
SEEDS = st.integers(0, 10_000)
# Narrow spaces take products of features, wide ones Gram matrices.
SHAPES = st.tuples(st.integers(5, 40), st.sampled_from([(5, 4), (60, 50), (3, 80)]))


def make_spaces(seed, shape):
    num_rows, dims = shape
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(num_rows, 3, generator=generator, dtype=torch.float64)
    return [
        shared @ torch.randn(3, d, generator=generator, dtype=torch.float64)
        + torch.randn(num_rows, d, generator=generator, dtype=torch.float64)
        for d in dims
    ]


def rotation(dim, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]


@pytest.mark.parametrize("name", [name for name in SCORES if name != "correlation"])
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, shape=SHAPES)
def test_rotation_changes_no_score(name, seed, shape):
    x, y = make_spaces(seed, shape)
    turned = x @ rotation(x.shape[1], seed), y @ rotation(y.shape[1], seed + 1)
    assert SCORES[name](*turned) == pytest.approx(SCORES[name](x, y), abs=1e-9)


def test_rotation_changes_correlation_distances():
    x, y = make_spaces(0, (40, (5, 4)))
    turned = rsa(x @ rotation(5, 0), y, "correlation")
    assert abs(turned - rsa(x, y, "correlation")) > 1e-3


@EVERY_SCORE
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, shape=SHAPES, powers=st.tuples(st.floats(-100, 100), st.floats(-100, 100)))
def test_scaling_a_space_as_a_whole_changes_no_score(name, seed, shape, powers):
    x, y = make_spaces(seed, shape)
    scaled = (space * 10.0**power for space, power in zip((x, y), powers, strict=True))
    assert SCORES[name](*scaled) == pytest.approx(SCORES[name](x, y), abs=1e-9)


@pytest.mark.parametrize("name", ["biased CKA", "debiased CKA", "sqeuclidean"])
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, shape=SHAPES, shift=st.floats(-1000, 1000))
def test_translation_changes_no_score_of_raw_rows(name, seed, shape, shift):
    x, y = make_spaces(seed, shape)
    moved = x + shift * torch.arange(x.shape[1]), y - shift
    assert SCORES[name](*moved) == pytest.approx(SCORES[name](x, y), abs=1e-8)


@EVERY_SCORE
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, shape=SHAPES)
def test_order_of_images_changes_no_score(name, seed, shape):
    x, y = make_spaces(seed, shape)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    assert SCORES[name](x[order], y[order]) == pytest.approx(SCORES[name](x, y), abs=1e-9)


@EVERY_SCORE
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, shape=SHAPES)
def test_scores_are_symmetric(name, seed, shape):
    x, y = make_spaces(seed, shape)
    assert SCORES[name](y, x) == pytest.approx(SCORES[name](x, y), abs=1e-9)


@EVERY_SCORE
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, shape=SHAPES)
def test_scores_lie_in_their_ranges(name, seed, shape):
    score = SCORES[name](*make_spaces(seed, shape))
    assert (0 if name == "biased CKA" else -1) - 1e-12 <= score <= 1 + 1e-12


@EVERY_SCORE
@settings(deadline=None, max_examples=25)
@given(
    seed=SEEDS,
    cuts=st.lists(st.integers(0, 40), max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_chunks_merge_in_any_order_to_the_same_score(name, seed, cuts, order):
    spaces = make_spaces(seed, (40, (5, 4)))
    origins = Moments.origins_of([space[:5] for space in spaces], KINDS)
    bounds = [0, *sorted(cuts), 40]
    parts = [
        Moments.measure([space[a:b] for space in spaces], [(0, 1)], origins)
        for a, b in itertools.pairwise(bounds)
    ]
    while len(parts) > 1:  # as a tree of any shape
        order.shuffle(parts)
        parts.append(parts.pop() + parts.pop())
    assert parts[0].count == 40
    assert MOMENTS[name](parts[0]) == pytest.approx(SCORES[name](*spaces), abs=1e-9)


def test_debiased_cka_of_unrelated_spaces_is_zero_on_average_and_biased_cka_is_not():
    biased, debiased = [], []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(50, 200, generator=generator, dtype=torch.float64) for _ in range(2))
        biased.append(linear_cka(x, y))
        debiased.append(linear_cka(x, y, debiased=True))
    values = torch.tensor(debiased)
    assert abs(float(values.mean())) < 3 * float(values.std()) / 200**0.5 < 0.01
    assert min(biased) > 0.7


@pytest.mark.parametrize("name", ["cosine", "sqeuclidean", "correlation"])
def test_rsa_of_unrelated_spaces_is_zero_on_average(name):
    values = []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(50, 20, generator=generator, dtype=torch.float64) for _ in range(2))
        values.append(SCORES[name](x, y))
    values = torch.tensor(values)
    assert abs(float(values.mean())) < 3 * float(values.std()) / 200**0.5 < 0.02
