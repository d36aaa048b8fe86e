import itertools
import math

import pytest
import torch

from alignctl.metrics import compare, linear_cka, minibatch_cka
from alignctl.metrics.cka import minibatch_estimate


def make_spaces(num_rows=40, d1=5, d2=4, *, size=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return size * x + 1, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def naive_hsic(x, y):
    """HSIC_1 as the U-statistic over tuples of different images: Song et al. 2012, eq. 4."""
    K, L = ([[float(a @ b) for b in space] for a in space] for space in (x, y))
    means = []
    for size, (p, q) in ((2, (0, 1)), (3, (0, 2)), (4, (2, 3))):
        tuples = list(itertools.permutations(range(len(x)), size))
        means.append(sum(K[t[0]][t[1]] * L[t[p]][t[q]] for t in tuples) / len(tuples))
    return means[0] - 2 * means[1] + means[2]


def u_centred(x):
    K = x @ x.T
    n = len(K)
    K = K.fill_diagonal_(0)
    sums = K.sum(dim=1)
    K = K - (sums[:, None] + sums) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    return K.fill_diagonal_(0)


def batch_terms(x, y, batch_size):
    """(num_batches, 3): HSIC_1 of x and y, x and x, y and y in each batch."""
    n = batch_size
    terms = []
    for start in range(0, len(x) - n + 1, n):
        K, L = (u_centred(space[start : start + n]) for space in (x, y))
        terms.append([float((A * B).sum()) / (n * (n - 3)) for A, B in ((K, L), (K, K), (L, L))])
    return torch.tensor(terms, dtype=torch.float64)


def ratio(terms):
    cross, self_x, self_y = terms.mean(dim=0).tolist()
    return cross / math.sqrt(self_x * self_y)


def test_minibatch_cka_divides_averages_of_u_statistics_over_batches():
    batches = [slice(0, 6), slice(6, 12)]
    for seed in range(8):
        x, y = make_spaces(12, size=0.63, seed=seed)
        means = [
            sum(naive_hsic(a[batch], b[batch]) for batch in batches) / 2
            for a, b in ((x, y), (x, x), (y, y))
        ]
        expected = means[0] / math.sqrt(means[1] * means[2])
        assert minibatch_cka(x, y, 6) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("batch_size", [4, 8, 32])
def test_minibatch_cka_of_many_batches_matches_u_centred_matrices(batch_size):
    for size in (0.5, 0.63, 0.8, 1e-4):
        x, y = make_spaces(200, size=size)
        expected = ratio(batch_terms(x - 1, y, batch_size))
        assert minibatch_cka(x - 1, y, batch_size) == pytest.approx(expected, abs=1e-10)


def test_minibatch_standard_error_is_that_of_the_jackknife_over_batches():
    x, y = make_spaces(1600, size=0.63)
    terms = batch_terms(x, y, 16)
    m = len(terms)
    without = [ratio(torch.cat([terms[:i], terms[i + 1 :]])) for i in range(m)]
    mean = sum(without) / m
    jackknife = math.sqrt((m - 1) / m * sum((score - mean) ** 2 for score in without))
    assert minibatch_estimate(x, y, 16).standard_error == pytest.approx(jackknife, rel=0.03)


@pytest.mark.parametrize("dims", [(5, 4), (60, 50)])
def test_one_batch_of_all_images_is_debiased_cka(dims):
    x, y = make_spaces(30, *dims)
    assert minibatch_cka(x, y, 30) == pytest.approx(linear_cka(x, y, debiased=True), abs=1e-12)
    assert minibatch_estimate(x, y, 30).standard_error is None
    (score,) = compare(x, y, ["cka hsic=debiased batch_size=30"])
    assert (score.ci_low, score.ci_high, score.form) == (None, None, "batches")


def test_an_incomplete_last_batch_is_left_out():
    x, y = make_spaces(40)
    assert minibatch_cka(x, y, 16) == pytest.approx(minibatch_cka(x[:32], y[:32], 16), abs=1e-14)
    assert minibatch_cka(x, y, 16) != minibatch_cka(x[:31], y[:31], 15)


def test_minibatch_cka_of_a_space_with_itself_is_one():
    x, _ = make_spaces(40)
    assert minibatch_cka(x, x, 8) == pytest.approx(1, abs=1e-12)


def test_a_constant_batch_is_a_batch_like_any_other():
    x, y = make_spaces(24, seed=1)
    x[:8] = 3.0
    assert math.isfinite(minibatch_cka(x, y, 8))


def test_batches_that_do_not_fit_are_refused():
    x, y = make_spaces(40)
    with pytest.raises(ValueError, match="batch_size must be at least 4, not 3"):
        minibatch_cka(x, y, 3)
    with pytest.raises(ValueError, match="a batch of 41 needs as many rows, not 40"):
        minibatch_cka(x, y, 41)


def test_space_that_varies_in_no_batch_is_refused():
    x, y = make_spaces(40)
    y = torch.arange(5.0, dtype=torch.float64).repeat_interleave(8)[:, None]
    with pytest.raises(ValueError, match="y: no batch varies"):
        minibatch_cka(x, y, 8)
