import math

import pytest
import torch
from references import hsic_u_statistic, inner_products, u_centred

from alignctl.metrics import cka as cka_module
from alignctl.metrics import compare, linear_cka, minibatch_cka
from alignctl.metrics.cka import minibatch_estimate


def make_spaces(num_rows=40, d1=5, d2=4, *, size=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return size * x + 1, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def batch_terms(x, y, batch_size):
    """(num_batches, 3): HSIC_1 of x and y, x and x, y and y in each batch."""
    n = batch_size
    terms = []
    for start in range(0, len(x) - n + 1, n):
        K, L = (u_centred(rows @ rows.T) for rows in (x[start : start + n], y[start : start + n]))
        terms.append([float((A * B).sum()) / (n * (n - 3)) for A, B in ((K, L), (K, K), (L, L))])
    return torch.tensor(terms, dtype=torch.float64)


@pytest.fixture
def in_order(monkeypatch):
    """Batches of consecutive rows."""

    def batches(num_rows, batch_size, *, seed):
        whole = num_rows // batch_size * batch_size
        return torch.arange(whole).reshape(-1, batch_size)

    monkeypatch.setattr(cka_module, "_batches", batches)


def ratio(terms):
    cross, self_x, self_y = terms.mean(dim=0).tolist()
    return cross / math.sqrt(self_x * self_y)


def test_minibatch_cka_divides_averages_of_u_statistics_over_batches(in_order):
    batches = [slice(0, 6), slice(6, 12)]
    for seed in range(8):
        x, y = make_spaces(12, size=0.63, seed=seed)
        means = [
            sum(hsic_u_statistic(*map(inner_products, (a[batch], b[batch]))) for batch in batches)
            / 2
            for a, b in ((x, y), (x, x), (y, y))
        ]
        expected = means[0] / math.sqrt(means[1] * means[2])
        assert minibatch_cka(x, y, 6) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("batch_size", [4, 8, 32])
def test_minibatch_cka_of_many_batches_matches_u_centred_matrices(batch_size, in_order):
    for size in (0.5, 0.63, 0.8, 1e-4):
        x, y = make_spaces(200, size=size)
        expected = ratio(batch_terms(x - 1, y, batch_size))
        assert minibatch_cka(x - 1, y, batch_size) == pytest.approx(expected, abs=1e-10)


def test_minibatch_standard_error_is_that_of_the_jackknife_over_batches(in_order):
    x, y = make_spaces(1600, size=0.63)
    terms = batch_terms(x, y, 16)
    m = len(terms)
    without = [ratio(torch.cat([terms[:i], terms[i + 1 :]])) for i in range(m)]
    mean = sum(without) / m
    jackknife = math.sqrt((m - 1) / m * sum((score - mean) ** 2 for score in without))
    assert minibatch_estimate(x, y, 16).standard_error == pytest.approx(jackknife, rel=1e-9)


@pytest.mark.parametrize("dims", [(5, 4), (60, 50)])
def test_one_batch_of_all_images_is_debiased_cka(dims):
    x, y = make_spaces(30, *dims)
    assert minibatch_cka(x, y, 30) == pytest.approx(linear_cka(x, y, debiased=True), abs=1e-12)
    assert minibatch_estimate(x, y, 30).standard_error is None
    (score,) = compare(x, y, ["cka hsic=debiased batch_size=30"])
    assert (score.ci_low, score.ci_high, score.form) == (None, None, "batches")


def test_batches_are_drawn_of_all_rows_and_what_fills_none_is_left_out():
    batches = cka_module._batches(1000, 32, seed=0)
    assert batches.shape == (31, 32)
    assert len(set(batches.ravel().tolist())) == 992
    assert abs(float(batches.double().mean(dim=1).std()) - 1000 / 12**0.5 / 32**0.5) < 15
    assert torch.equal(batches, cka_module._batches(1000, 32, seed=0))
    assert not torch.equal(batches, cka_module._batches(1000, 32, seed=1))


def clusters(num_rows=3200):
    """Ten clusters, one after the other, as files of images lie; y is x turned, with noise."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(10, 20, generator=generator, dtype=torch.float64)
    x = centres.repeat_interleave(num_rows // 10, dim=0)
    x = x + torch.randn(num_rows, 20, generator=generator, dtype=torch.float64)
    turned = torch.linalg.qr(torch.randn(20, 20, generator=generator, dtype=torch.float64))[0]
    return x, x @ turned + 2 * torch.randn(num_rows, 20, generator=generator, dtype=x.dtype)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("batch_size", [8, 32, 320])
def test_rows_in_the_order_of_classes_have_the_exact_value_up_to_the_error(batch_size, seed):
    x, y = clusters()
    exact = linear_cka(x, y, debiased=True)
    assert 0.6 < exact < 0.9
    assert minibatch_cka(x, y, batch_size, seed=seed) == pytest.approx(exact, abs=0.05)
    (score,) = compare(x, y, f"cka hsic=debiased batch_size={batch_size} seed={seed}")
    assert score.value == minibatch_cka(x, y, batch_size, seed=seed)
    assert score.metric.endswith(f"batch_size={batch_size} seed={seed}")


def test_the_seed_draws_the_batches():
    x, y = make_spaces(64)
    first, again, other = (minibatch_cka(x, y, 8, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert minibatch_cka(x, y, 8) == minibatch_cka(x, y, 8, seed=0)


@pytest.mark.parametrize(
    ("num_batches", "there"), [(1, False), (2, False), (19, False), (20, True)]
)
def test_few_batches_have_no_interval_and_say_why(num_batches, there):
    x, y = make_spaces(8 * num_batches + 5)
    (score,) = compare(x, y, ["cka hsic=debiased batch_size=8"])
    assert (score.ci_low is not None) == there
    reason = "batches" if there else f"none: it takes 20 batches, not {num_batches}"
    assert score.interval == reason


def test_the_interval_has_students_quantile_and_the_variance_of_a_sample(in_order):
    x, y = make_spaces(8 * 20)
    found = minibatch_estimate(x, y, 8)
    low, high = found.interval(0.95)
    assert (high - low) / 2 == pytest.approx(2.093024054 * found.standard_error)


def test_minibatch_cka_of_a_space_with_itself_is_one():
    x, _ = make_spaces(40)
    assert minibatch_cka(x, x, 8) == pytest.approx(1, abs=1e-12)


def test_a_constant_batch_is_a_batch_like_any_other():
    x, y = make_spaces(24, seed=1)
    x[:8] = 3.0
    assert math.isfinite(minibatch_cka(x, y, 8))


def test_batches_that_do_not_fit_are_refused():
    x, y = make_spaces(40)
    for size in (True, 8.0, "8"):
        with pytest.raises(ValueError, match=f"^batch_size must be a whole number, not {size!r}$"):
            minibatch_cka(x, y, size)
    with pytest.raises(ValueError, match="batch_size must be at least 4, not 3"):
        minibatch_cka(x, y, 3)
    with pytest.raises(ValueError, match=r"^seed must be a whole number, not 1\.5$"):
        minibatch_cka(x, y, 8, seed=1.5)
    with pytest.raises(ValueError, match="a batch of 41 needs as many rows, not 40"):
        minibatch_cka(x, y, 41)


def test_space_that_varies_in_no_batch_is_refused(in_order):
    x, y = make_spaces(40)
    y = torch.arange(5.0, dtype=torch.float64).repeat_interleave(8)[:, None]
    with pytest.raises(ValueError, match="y: no batch varies"):
        minibatch_cka(x, y, 8)
