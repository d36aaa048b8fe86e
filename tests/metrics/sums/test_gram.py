import math
import statistics
from typing import get_args

import pytest
import torch
from references import u_centred

from alignctl.metrics import compare, linear_cka
from alignctl.metrics.cka import rbf_cka
from alignctl.metrics.inference.closed_form import score_of
from alignctl.metrics.sums import gram
from alignctl.metrics.sums.moments import Moments
from alignctl.metrics.sums.pair_sums import MIN_ROWS, PairRows
from alignctl.metrics.sums.rows import Kind

KINDS = get_args(Kind)

ROWS = ["squares", "levers_x", "levers_y", "lengths_x", "lengths_y"]


def make_spaces(num_rows=30, d1=5, d2=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x + 1, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def naive_pair_rows(K, L):
    """From two n x n kernel matrices, entry by entry, both centred as H K H."""
    n = len(K)
    H = torch.eye(n, dtype=torch.float64) - 1 / n
    K, L = (H @ torch.tensor(matrix, dtype=torch.float64) @ H for matrix in (K, L))
    everyone = range(n)
    return PairRows(
        squares=torch.stack([sum(K[i, j] * L[i, j] for j in everyone) for i in everyone]),
        levers_x=torch.stack([sum(K[i, j] * L[j, j] for j in everyone) for i in everyone]),
        levers_y=torch.stack([sum(L[i, j] * K[j, j] for j in everyone) for i in everyone]),
        lengths_x=K.diagonal(),
        lengths_y=L.diagonal(),
    )


def naive_rbf(x, bandwidth):
    n = len(x)
    distances = [[math.dist(a, b) for b in x.tolist()] for a in x.tolist()]
    median = statistics.median(distances[i][j] for i in range(n) for j in range(i))
    sigma = bandwidth * median
    return [[math.exp(-((d / sigma) ** 2) / 2) for d in row] for row in distances]


@pytest.mark.parametrize("dims", [(5, 4), (1, 1), (100, 80), (200, 3)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("statistic", MIN_ROWS)
def test_products_of_features_and_gram_matrices_give_the_same_score(dims, kind, statistic):
    if kind != "raw" and dims == (1, 1):
        dims = (2, 3)  # one feature has no direction but its sign
    x, y = make_spaces(30, *dims)
    scores = [score_of(x, y, kind, statistic, form) for form in ("features", "gram")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-9)


@pytest.mark.parametrize(
    ("num_rows", "dims", "form"),
    [
        (30, (30, 30), "features"),
        (30, (30, 31), "gram"),
        (30, (3, 57), "features"),
        (30, (3, 58), "gram"),
    ],
)
def test_the_form_with_fewer_operations_is_chosen(num_rows, dims, form):
    x, y = make_spaces(num_rows, *dims)
    metrics = ["cka", "cka hsic=debiased", "rsa", "rsa distance=correlation", "cka_lower_bound"]
    assert {score.form for score in compare(x, y, metrics)} == {form}


def test_gram_form_of_few_images_never_multiplies_features(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("took the products of features")

    monkeypatch.setattr("alignctl.metrics.sums.products.CrossProducts.measure", refuse)
    linear_cka(*make_spaces(10, 20, 20))
    with pytest.raises(AssertionError, match="products of features"):
        linear_cka(*make_spaces(30, 5, 5))


@pytest.mark.parametrize("entries", [1, 30, 100, 30 * 29])
def test_blocks_of_any_size_give_the_same_rows(entries, monkeypatch):
    spaces = make_spaces(30)

    def measured():
        x, y = spaces
        return [
            gram.pair_rows(gram.linear_kernel(x), gram.linear_kernel(y)),
            gram.pair_rows(gram.rbf_kernel(x), gram.rbf_kernel(y, 0.5)),
        ]

    whole = measured()
    monkeypatch.setattr(gram, "_BLOCK_ENTRIES", entries)
    assert len(gram.parts(30)) > 1
    for found, expected in zip(measured(), whole, strict=True):
        for name in ROWS:
            torch.testing.assert_close(
                getattr(found, name), getattr(expected, name), rtol=1e-12, atol=1e-12
            )


def test_linear_kernel_adds_what_its_n_by_n_matrix_does():
    x, y = make_spaces(10)
    scaled = [gram.linear_kernel(space) for space in (x, y)]
    # A kernel may be scaled as a whole: no score changes.
    factors = [
        float(kernel.diagonal.sum() / (space - space.mean(dim=0)).square().sum())
        for kernel, space in zip(scaled, (x, y), strict=True)
    ]
    K, L = (
        [[factor * float(a @ b) for b in space] for a in space]
        for factor, space in zip(factors, (x, y), strict=True)
    )
    found, expected = gram.pair_rows(*scaled), naive_pair_rows(K, L)
    for name in ROWS:
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("bandwidth", [0.2, 1.0, 3.0])
def test_rbf_kernel_adds_what_its_n_by_n_matrix_does(bandwidth):
    x, y = make_spaces(10)  # 45 pairs: their median is one of them
    found = gram.pair_rows(*(gram.rbf_kernel(space, bandwidth) for space in (x, y)))
    expected = naive_pair_rows(naive_rbf(x, bandwidth), naive_rbf(y, bandwidth))
    for name in ROWS:
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("debiased", [False, True])
def test_rbf_cka_matches_its_definition(debiased):
    x, y = make_spaces(10)
    K, L = (torch.tensor(naive_rbf(space, 1.0), dtype=torch.float64) for space in (x, y))
    n = len(x)
    if debiased:
        K, L = u_centred(K), u_centred(L)
    else:
        H = torch.eye(n, dtype=torch.float64) - 1 / n
        K, L = H @ K @ H, H @ L @ H
    expected = float((K * L).sum() / ((K * K).sum() * (L * L).sum()).sqrt())
    assert rbf_cka(x, y, debiased=debiased) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("num_rows", [4, 5, 8, 9, 13])
def test_width_is_the_median_for_even_and_odd_numbers_of_pairs(num_rows, debiased):
    x, y = make_spaces(num_rows)
    K, L = (torch.tensor(naive_rbf(space, 1.0), dtype=torch.float64) for space in (x, y))
    H = torch.eye(num_rows, dtype=torch.float64) - 1 / num_rows
    K, L = ((u_centred(M) if debiased else H @ M @ H) for M in (K, L))
    expected = float((K * L).sum() / ((K * K).sum() * (L * L).sum()).sqrt())
    assert rbf_cka(x, y, debiased=debiased) == pytest.approx(expected, abs=1e-12)


def test_width_of_many_images_is_the_median_over_some_of_them():
    x, _ = make_spaces(5002, 2)
    some = x[::2]  # 2501 rows, an even number of pairs
    distances = torch.pdist(some).tolist()
    assert len(distances) % 2 == 0
    assert gram._median_distance(x, "x") == pytest.approx(statistics.median(distances), rel=1e-14)


def test_rbf_cka_keeps_its_digits_under_an_offset():
    x, y = make_spaces(30)
    assert rbf_cka(x + 1e6, y - 1e6) == pytest.approx(rbf_cka(x, y), abs=1e-8)


def test_wide_rbf_kernel_approaches_the_linear_one():
    x, y = make_spaces(30)
    assert rbf_cka(x, y, bandwidth=1e3) == pytest.approx(linear_cka(x, y), abs=1e-5)
    assert abs(rbf_cka(x, y, bandwidth=0.5) - linear_cka(x, y)) > 0.01


def test_rbf_kernel_of_rows_half_of_which_are_equal_is_refused():
    x, y = make_spaces(30)
    x[:25] = x[0]
    with pytest.raises(ValueError, match="the median distance is 0"):
        rbf_cka(x, y)


@pytest.mark.parametrize(("value", "problem"), [(math.nan, "not finite"), (math.inf, "not finite")])
def test_row_that_is_not_finite_is_named(value, problem):
    x, _ = make_spaces(30)
    x[7, 1] = value
    with pytest.raises(ValueError, match=f"row 7: {problem}"):
        gram.linear_kernel(x)


def test_row_without_direction_is_named():
    x, _ = make_spaces(30)
    x[7] = 0
    with pytest.raises(ValueError, match="y, row 7: all zeros"):
        gram.linear_kernel(x, "unit", name="y")
    with pytest.raises(ValueError, match="y, row 7: constant"):
        gram.linear_kernel(x, "correlation", name="y")


def test_moments_of_more_features_than_images_agree_with_the_gram_form():
    x, y = make_spaces(20, 60, 50)
    moments = Moments.measure([x, y], [(0, 1)], Moments.origins_of([x, y]))
    for debiased in (False, True):
        expected = linear_cka(x, y, debiased=debiased)
        assert moments.linear_cka(0, 1, debiased=debiased) == pytest.approx(expected, abs=1e-10)
