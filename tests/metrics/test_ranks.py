import numpy as np
import pytest
from scipy import stats

from alignctl.metrics.ranks import Rounding, doubled_ranks


def rounding_of(num_values, features=0.0, arithmetic=0.0):
    return Rounding(
        np.full(num_values, features, dtype=np.float32),
        np.full(num_values, arithmetic, dtype=np.float32),
    )


def ranks_of(values, **errors):
    return doubled_ranks(np.asarray(values), rounding_of(len(values), **errors)) / 2


@pytest.mark.parametrize("seed", range(5))
def test_ranks_of_exact_numbers_are_those_of_scipy(seed):
    values = np.random.default_rng(seed).integers(0, 20, 50).astype(float)
    np.testing.assert_array_equal(ranks_of(values), stats.rankdata(values))


@pytest.mark.parametrize("cause", ["features", "arithmetic"])
@pytest.mark.parametrize("error", [1e-14, 1e-7, 1e-3])
def test_equal_numbers_tie_however_rounding_scatters_them(cause, error):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 20, 400) / 10
    values = truth + error * rng.uniform(-1, 1, 400)
    np.testing.assert_array_equal(ranks_of(values, **{cause: error}), stats.rankdata(truth))


def test_numbers_farther_apart_than_their_errors_have_an_order():
    assert ranks_of([0.0, 0.3, 1.0, 1.3], features=0.1).tolist() == [1, 2, 3, 4]
    assert ranks_of([0.0, 0.1, 1.0, 1.1], features=0.1).tolist() == [1.5, 1.5, 3.5, 3.5]


def test_ties_closer_to_each_other_than_the_bound_are_found_by_their_own_width():
    # Rounding adds up to a thousandth of its bound, which is as large as the gaps between values.
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 20, 400) / 10
    values = truth + 1e-4 * rng.uniform(-1, 1, 400)
    np.testing.assert_array_equal(ranks_of(values, features=0.1), stats.rankdata(truth))


@pytest.mark.parametrize("error", [1e-12, 1e-8, 1e-5, 1e-2])
def test_a_continuum_keeps_its_order_however_coarse_the_rounding(error):
    values = np.random.default_rng(0).normal(size=20_000)
    moved = np.abs(ranks_of(values, features=error) - stats.rankdata(values))
    assert moved.max() <= 4
    assert moved.mean() < 0.1


def test_a_chain_of_small_steps_is_not_one_value():
    values = np.arange(1000) * 1e-3
    np.testing.assert_array_equal(ranks_of(values, features=1e-3), np.arange(1, 1001))


def test_each_number_has_an_error_of_its_own():
    # As of distances to an image far out, beside others.
    values = np.array([1.0, 1.001, 1.002, 500.0, 500.3])
    errors = np.array([1e-6, 1e-6, 1e-6, 0.2, 0.2], dtype=np.float32)
    ranks = doubled_ranks(values, Rounding(errors, 0 * errors)) / 2
    assert ranks.tolist() == [1, 2, 3, 4.5, 4.5]


def test_order_of_the_numbers_does_not_matter():
    rng = np.random.default_rng(3)
    values = np.repeat(rng.normal(size=40), 5) + 1e-9 * rng.normal(size=200)
    order = rng.permutation(200)
    errors = {"features": 1e-8, "arithmetic": 1e-12}
    np.testing.assert_array_equal(
        ranks_of(values, **errors)[order], ranks_of(values[order], **errors)
    )
