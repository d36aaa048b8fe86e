import math

import pytest
import references
import torch
from references import hsic_u_statistic, inner_products

from alignctl.metrics import linear_cka, rsa
from alignctl.metrics.inference.closed_form import from_kernels, linear_kernels
from alignctl.metrics.inference.estimate import Estimate
from alignctl.metrics.sums.pair_sums import PairRows, PairSums, influence, spread_of

STATISTICS = ["biased", "debiased", "distances"]


def make_spaces(num_rows=9, d1=4, d2=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x + 2, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def pairs_of(*spaces):
    x, y = spaces
    return [(x, y), (x, x), (y, y)]


def squared_distances(x):
    return [[float((a - b) @ (a - b)) for b in x] for a in x]


def double_centred(K):
    n = len(K)
    means = [sum(row) / n for row in K]
    grand = sum(means) / n
    return [[K[i][j] - means[i] - means[j] + grand for j in range(n)] for i in range(n)]


def u_centred(K):
    """Song et al. 2012, before eq. 5 (Szekely and Rizzo 2014, eq. 2.5)."""
    n = len(K)
    sums = [sum(row) - row[i] for i, row in enumerate(K)]
    grand = sum(sums) / ((n - 1) * (n - 2))
    return [
        [K[i][j] - (sums[i] + sums[j]) / (n - 2) + grand if i != j else 0.0 for j in range(n)]
        for i in range(n)
    ]


def off_diagonal_centred(D):
    n = len(D)
    mean = sum(D[i][j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return [[D[i][j] - mean if i != j else 0.0 for j in range(n)] for i in range(n)]


def naive_shares(statistic, x, y):
    """Row sums of the products of two n x n matrices: the share of each image."""
    if statistic == "distances":
        A, B = (off_diagonal_centred(squared_distances(space)) for space in (x, y))
    else:
        centred = double_centred if statistic == "biased" else u_centred
        A, B = (centred(inner_products(space)) for space in (x, y))
    scale = 0.25 if statistic == "distances" else 1.0
    return [
        scale * sum(a * b for a, b in zip(row_a, row_b, strict=True))
        for row_a, row_b in zip(A, B, strict=True)
    ]


def naive_rows(x, y):
    """What `PairRows` says of itself, row by row."""
    x, y = (space - space.mean(dim=0) for space in (x, y))
    K, L = x @ x.T, y @ y.T
    e, f = K.diagonal(), L.diagonal()
    squares = torch.stack([(K[i] * L[i]).sum() for i in range(len(x))])
    levers_x = torch.stack([sum(f[j] * K[i, j] for j in range(len(x))) for i in range(len(x))])
    levers_y = torch.stack([sum(e[j] * L[i, j] for j in range(len(x))) for i in range(len(x))])
    return PairRows(squares, levers_x, levers_y, e, f)


def naive_sums(x, y):
    x, y = (space - space.mean(dim=0) for space in (x, y))
    e, f = x.square().sum(dim=1), y.square().sum(dim=1)
    square = sum(float(a @ b) * float(c @ d) for a, c in zip(x, y, strict=True)
                 for b, d in zip(x, y, strict=True))  # fmt: skip
    norms = sum((p - e.mean()) * (q - f.mean()) for p, q in zip(e, f, strict=True))
    return PairSums(len(x), square, float(e.sum()), float(f.sum()), float(norms))


@pytest.mark.parametrize("num_rows", [4, 5, 9])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_statistic_is_the_sum_of_products_of_its_centred_matrices(statistic, num_rows):
    for x, y in pairs_of(*make_spaces(num_rows)):
        expected = sum(naive_shares(statistic, x, y))
        assert naive_sums(x, y).value(statistic) == pytest.approx(expected, rel=1e-11)


def test_debiased_statistic_is_the_u_statistic_over_different_images():
    n = 6
    for x, y in pairs_of(*make_spaces(n)):
        expected = hsic_u_statistic(inner_products(x), inner_products(y))
        value = naive_sums(x, y).value("debiased") / (n * (n - 3))
        assert value == pytest.approx(expected, rel=1e-10)


def test_distances_are_their_covariance_over_pairs():
    n = 9
    lower = [(i, j) for i in range(n) for j in range(i)]
    for x, y in pairs_of(*make_spaces(n)):
        a, b = ([D[i][j] for i, j in lower] for D in map(squared_distances, (x, y)))
        covariance = sum(p * q for p, q in zip(a, b, strict=True)) / len(lower)
        covariance -= sum(a) / len(lower) * sum(b) / len(lower)
        value = naive_sums(x, y).value("distances") / (n * (n - 1) / 4)
        assert value == pytest.approx(covariance, rel=1e-10)


@pytest.mark.parametrize("num_rows", [5, 9])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_statistic_without_an_image_is_that_of_the_others(statistic, num_rows):
    for x, y in pairs_of(*make_spaces(num_rows)):
        found = naive_rows(x, y).without_one(statistic, naive_sums(x, y))
        for i in range(num_rows):
            others = [j for j in range(num_rows) if j != i]
            expected = naive_sums(x[others], y[others]).value(statistic)
            assert float(found[i]) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_rows_add_up_to_the_sums():
    x, y = make_spaces()
    found, expected = naive_rows(x, y).sums(), naive_sums(x, y)
    assert found.count == expected.count
    for name in ("square", "norm_x", "norm_y", "norms"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-11)


def influences(x, y, statistic):
    rows = [naive_rows(*pair) for pair in pairs_of(x, y)]
    sums = [part.sums() for part in rows]
    spread = spread_of(statistic, *sums, resolution=1e-14)
    return influence(statistic, spread, *zip(rows, sums, strict=True))


def scores_without_one(statistic, x, y):
    """All delete-one scores, and the score of all; each from its n x n matrices."""
    if statistic == "distances":
        A, B = (torch.cdist(s, s, compute_mode="donot_use_mm_for_euclid_dist") for s in (x, y))
        A, B = A.square(), B.square()
    else:
        A, B = x @ x.T, y @ y.T

    def score(kept):
        a, b = A[kept][:, kept], B[kept][:, kept]
        n = len(a)
        if statistic == "distances":
            lower = torch.tril_indices(n, n, -1)
            return float(torch.corrcoef(torch.stack([a[tuple(lower)], b[tuple(lower)]]))[0, 1])
        if statistic == "biased":
            H = torch.eye(n, dtype=torch.float64) - 1 / n
            a, b = H @ a @ H, H @ b @ H
        else:
            a, b = (references.u_centred(m) for m in (a, b))
        return float((a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt())

    everyone = torch.arange(len(x))
    return [score(everyone[everyone != i]) for i in range(len(x))], score(everyone)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_influence_and_standard_error_are_those_of_the_delete_one_jackknife(statistic):
    n = 60
    x, y = make_spaces(n, 6, 5, seed=3)
    without, score = scores_without_one(statistic, x, y)
    estimate = from_kernels(*linear_kernels(x, y, "raw"), statistic)
    assert estimate.value == pytest.approx(score, abs=1e-12)
    pulls = (n - 1) * (score - torch.tensor(without, dtype=torch.float64))
    torch.testing.assert_close(influences(x, y, statistic), pulls, rtol=0, atol=1e-9)
    jackknife = math.sqrt((n - 1) / n * sum((s - sum(without) / n) ** 2 for s in without))
    assert estimate.standard_error == pytest.approx(jackknife, rel=1e-9)


def test_an_image_without_which_a_space_does_not_vary_leaves_no_interval():
    x, y = make_spaces(40)
    x[:] = 0.1
    x[7] += 3
    estimate = from_kernels(*linear_kernels(x, y, "raw"), "biased")
    assert estimate.standard_error is None
    assert estimate.no_interval == "one image alone makes the score"


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_space_with_itself_has_no_error(statistic):
    x, _ = make_spaces(30)
    estimate = from_kernels(*linear_kernels(x, x, "raw"), statistic)
    assert estimate.value == pytest.approx(1, abs=1e-12)
    assert estimate.standard_error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(math.inf, 1.959963985), (19, 2.093024054), (1, 12.70620474)]
)
def test_interval_is_students_and_is_not_cut_to_the_range_of_the_score(freedom, quantile):
    low, high = Estimate(0.99, 0.02, degrees_of_freedom=freedom).interval(0.95)
    assert (low, high) == pytest.approx((0.99 - quantile * 0.02, 0.99 + quantile * 0.02))
    assert all(math.isnan(end) for end in Estimate(0.99).interval(0.95))


@pytest.mark.parametrize(
    ("score", "needed"),
    [
        (linear_cka, 2),
        (lambda x, y: linear_cka(x, y, debiased=True), 4),
        (lambda x, y: rsa(x, y, distance="sqeuclidean"), 3),
    ],
)
@pytest.mark.parametrize("dim", [1, 40])
def test_the_fewest_rows_suffice_and_fewer_are_refused(score, needed, dim):
    x, y = make_spaces(needed, dim, dim)
    if needed == 2:
        assert score(x, y) == pytest.approx(1)
    else:
        assert -1 <= score(x, y) <= 1
    if dim == 1 and needed == 2:
        return  # one row of one feature: every row is the same
    with pytest.raises(ValueError, match=f"needs at least {needed} rows, not {needed - 1}"):
        score(x[:-1], y[:-1])
