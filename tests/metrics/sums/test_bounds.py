import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignctl.metrics import Moments, compare

METRICS = ["cka_lower_bound", "cka kernel=cosine", "rsa_lower_bound", "rsa"]


def make_spaces(seed=0, num_rows=20, dims=(6, 5), noise=0.3):
    """Two spaces whose images are nearly alike, the more so the less noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, dims[0], generator=generator, dtype=torch.float64)
    turn = torch.randn(*dims, generator=generator, dtype=torch.float64) / math.sqrt(dims[0])
    y = x @ (turn if dims[0] != dims[1] else torch.linalg.qr(turn)[0])
    return x, y + noise * torch.randn(y.shape, generator=generator, dtype=torch.float64)


def cosines(x):
    return [[float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) for b in x] for a in x]


def naive_rho(x, y):
    n = len(x)
    H = torch.eye(n, dtype=torch.float64) - 1 / n
    K, L = (H @ torch.tensor(cosines(space), dtype=torch.float64) @ H for space in (x, y))
    return float((K - L).norm() / K.norm())


def naive_r(x, y):
    lower = [(i, j) for i in range(len(x)) for j in range(i)]
    a, b = ([1 - C[i][j] for i, j in lower] for C in (cosines(x), cosines(y)))
    mean = sum(a) / len(a)
    apart = sum((q - p) ** 2 for p, q in zip(a, b, strict=True))
    return math.sqrt(apart / sum((p - mean) ** 2 for p in a))


def bounds_of(x, y):
    return Moments.measure([x, y], [(0, 1)], Moments.origins_of([x, y])).bounds(0, 1)


@pytest.mark.parametrize("noise", [0.01, 0.3, 3.0])
def test_rho_and_r_match_their_n_by_n_matrices(noise):
    x, y = make_spaces(noise=noise)
    for a, b in ((x, y), (y, x)):
        bounds = bounds_of(a, b)
        assert bounds.rho == pytest.approx(naive_rho(a, b), rel=1e-9)
        assert bounds.r == pytest.approx(naive_r(a, b), rel=1e-9)


def test_squared_rho_and_r_of_float32_features_match_their_n_by_n_matrices():
    x, y = (space.float() for space in make_spaces(num_rows=1500, dims=(8, 8), noise=0.05))
    bounds = bounds_of(x, y)
    units = [z.double() / z.double().norm(dim=1, keepdim=True) for z in (x, y)]
    K, L = (unit @ unit.T for unit in units)
    lower = tuple(torch.tril_indices(1500, 1500, -1))
    a, b = K[lower], L[lower]
    r = float((a - b).norm() / (a - a.mean()).norm())
    assert bounds.r**2 == pytest.approx(r**2, abs=1e-6)
    K, L = (M - M.mean(dim=0) - M.mean(dim=1, keepdim=True) + M.mean() for M in (K, L))
    assert bounds.rho**2 == pytest.approx(float((K - L).norm() / K.norm()) ** 2, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 1000),
    noise=st.floats(0.01, 2),
    num_rows=st.integers(4, 30),
    dims=st.sampled_from([(6, 6), (6, 5), (3, 40), (50, 50)]),
)
def test_scores_are_never_below_their_bounds(seed, noise, num_rows, dims):
    x, y = make_spaces(seed, num_rows, dims, noise)
    cka_bound, cka, rsa_bound, rsa_score = (score.value for score in compare(x, y, METRICS))
    assert cka >= cka_bound - 1e-12
    if rsa_bound >= 0:
        assert rsa_score >= rsa_bound - 1e-12


def test_rsa_may_be_below_a_bound_that_is_below_zero():
    x, y = make_spaces(57, 13, (3, 40), noise=3.0)
    bound, score = (one.value for one in compare(x, y, ["rsa_lower_bound", "rsa"]))
    assert score < bound < 0


def test_bounds_are_close_to_the_scores_of_close_spaces():
    x, y = make_spaces(dims=(6, 6), noise=0.01)
    cka_bound, cka, rsa_bound, rsa_score = (score.value for score in compare(x, y, METRICS))
    assert 0.9 < cka_bound < cka < 1
    assert 0.9 < rsa_bound < rsa_score < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(20, 5), (20, 50), (3000, 16)])
def test_identical_models_have_distances_of_zero_and_a_bound_of_one(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, generator=generator, dtype=dtype)
    bounds = bounds_of(x, x.clone())
    assert (bounds.rho, bounds.r) == (0, 0)
    scores = compare(x, x.clone(), ["cka_lower_bound", "rsa_lower_bound"])
    assert [score.value for score in scores] == [1, 1]


def test_rotated_models_have_a_bound_of_one_too():
    for seed in range(300):
        x, y = make_spaces(seed, num_rows=5, dims=(50, 50), noise=0)
        bounds = compare(x, y, ["cka_lower_bound", "rsa_lower_bound"])
        assert [bound.value for bound in bounds] == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("shape", [(6, 6), (12, 60)])
def test_model_with_equal_cosines_has_no_bound(shape):
    same = torch.eye(*shape, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(*shape, generator=generator, dtype=torch.float64)
    for metric in ("cka_lower_bound", "rsa_lower_bound"):
        with pytest.raises(ValueError, match="x: all cosine distances are equal"):
            compare(same, y, [metric])


def test_bounds_need_unit_rows():
    x, y = make_spaces()
    moments = Moments.measure([x, y], [(0, 1)], Moments.origins_of([x, y], ("raw",)))
    with pytest.raises(ValueError, match="unit rows were not measured"):
        moments.bounds(0, 1)
