import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import references
import torch

from alignctl.metrics import linear_cka

make_spaces = functools.partial(references.make_spaces, num_rows=20)
GOLDEN = Path(__file__).parents[1] / "golden"


def test_cka_matches_the_gram_form_of_its_definition():
    x, y = make_spaces()
    assert linear_cka(x, y) == pytest.approx(references.cka(x, y), abs=1e-12)


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
    assert linear_cka(x, y) == pytest.approx(references.cka(x, y), abs=1e-12)


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
