import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignctl.metrics import linear_cka

GOLDEN = Path(__file__).parents[1] / "golden"


def make_spaces(seed=0, num_rows=20, d1=6, d2=4):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def rotation(dim, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]


def naive_hsic(K, L):
    """tr(K H L H) with H = I - 11'/n, each entry from its definition."""
    n = len(K)
    H = [[(1.0 if i == j else 0.0) - 1 / n for j in range(n)] for i in range(n)]
    KH = [[sum(K[i][k] * H[k][j] for k in range(n)) for j in range(n)] for i in range(n)]
    LH = [[sum(L[i][k] * H[k][j] for k in range(n)) for j in range(n)] for i in range(n)]
    return sum(KH[i][j] * LH[j][i] for i in range(n) for j in range(n))


def naive_cka(x, y):
    K, L = ([[float(a @ b) for b in space] for a in space] for space in (x, y))
    return naive_hsic(K, L) / math.sqrt(naive_hsic(K, K) * naive_hsic(L, L))


def test_cka_matches_the_gram_form_of_its_definition():
    x, y = make_spaces()
    assert linear_cka(x, y) == pytest.approx(naive_cka(x, y), abs=1e-12)


@pytest.mark.parametrize(
    "case", json.loads((GOLDEN / "metrics.json").read_text()), ids=lambda case: str(case["i"])
)
def test_cka_matches_golden_numbers(case):
    with np.load(GOLDEN / "metrics.npz") as arrays:
        x, y = arrays[f"{case['i']}/X"], arrays[f"{case['i']}/Y"]
    assert linear_cka(x, y) == pytest.approx(case["cka_linear"], abs=1e-9)


def test_cka_of_a_space_with_itself_is_one():
    x, _ = make_spaces()
    assert linear_cka(x, x) == pytest.approx(1, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-10, 10),
)
def test_cka_is_invariant_to_rotation_scaling_translation_and_order(seed, scale, shift):
    x, y = make_spaces(seed)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    moved = scale * (x @ rotation(6, seed)) + shift
    assert linear_cka(moved[order], y[order]) == pytest.approx(linear_cka(x, y), abs=1e-9)


def test_cka_is_not_invariant_to_scaling_one_feature():
    x, y = make_spaces()
    stretched = x * torch.tensor([10.0, 1, 1, 1, 1, 1])
    assert abs(linear_cka(stretched, y) - linear_cka(x, y)) > 0.01


def test_cka_needs_the_same_order_of_images():
    x, y = make_spaces(num_rows=200)
    assert linear_cka(x, y.flip(0)) < linear_cka(x, y) - 0.1


def test_float32_agrees_with_float64_on_offset_features():
    x, y = (space.float() + 1000 for space in make_spaces(num_rows=3000, d1=60, d2=50))
    assert linear_cka(x, y) == pytest.approx(linear_cka(x.double(), y.double()), abs=1e-7)


def test_arrays_read_only_reversed_or_of_whole_numbers_are_accepted():
    x, y = (space.numpy() for space in make_spaces())
    x.setflags(write=False)
    assert linear_cka(x[::-1], y[::-1]) == pytest.approx(linear_cka(x, y))
    whole = np.arange(40).reshape(20, 2) ** 2
    assert linear_cka(whole, y) == pytest.approx(linear_cka(whole.astype(float), y))


def test_zero_row_is_a_row_like_any_other():
    x, y = make_spaces()
    x[3] = 0
    assert linear_cka(x, y) == pytest.approx(naive_cka(x, y), abs=1e-12)


def test_constant_space_is_refused():
    x, _ = make_spaces()
    with pytest.raises(ValueError, match="y: every row is the same"):
        linear_cka(x, torch.full((20, 3), 0.1))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_row_that_is_not_finite_is_named(value):
    x, y = make_spaces()
    y[7, 2] = value
    with pytest.raises(ValueError, match="y, row 7, column 2: not finite"):
        linear_cka(x, y)


def test_shapes_that_do_not_fit_are_refused():
    x, y = make_spaces()
    with pytest.raises(ValueError, match="x has 20 rows and y 19"):
        linear_cka(x, y[:19])
    with pytest.raises(ValueError, match=r"y: want real \(n, d\)"):
        linear_cka(x, y[:, 0])
    with pytest.raises(ValueError, match=r"x: want real \(n, d\)"):
        linear_cka(x.to(torch.complex128), y)
    with pytest.raises(ValueError, match="at least 2 rows, not 1"):
        linear_cka(x[:1], y[:1])
