import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import references
import torch

from alignctl.metrics import rsa

make_spaces = functools.partial(references.make_spaces, num_rows=15)
GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("distance", ["cosine", "correlation", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize("correlation", ["pearson", "spearman", "kendall"])
def test_rsa_matches_the_lower_triangles_of_its_definition(distance, correlation):
    x, y = make_spaces()
    expected = references.rsa(x, y, distance, correlation)
    assert rsa(x, y, distance=distance, correlation=correlation) == pytest.approx(
        expected, abs=1e-12
    )


@pytest.mark.parametrize(
    "case", json.loads((GOLDEN / "metrics.json").read_text()), ids=lambda case: str(case["i"])
)
def test_rsa_matches_golden_numbers(case):
    with np.load(GOLDEN / "metrics.npz") as arrays:
        x, y = arrays[f"{case['i']}/X"], arrays[f"{case['i']}/Y"]
    for distance, correlation in (
        ("cosine", "pearson"),
        ("cosine", "spearman"),
        ("euclidean", "pearson"),
    ):
        score = rsa(x, y, distance=distance, correlation=correlation)
        assert score == pytest.approx(case[f"rsa_{distance}_{correlation}"], abs=1e-9)


def test_three_images_are_enough():
    x, y = make_spaces(num_rows=3)
    assert rsa(x, y) == pytest.approx(references.rsa(x, y, "cosine", "pearson"), abs=1e-12)


def test_more_features_than_images_is_exact():
    x, y = make_spaces(num_rows=8, d1=700, d2=600)
    assert rsa(x, y) == pytest.approx(references.rsa(x, y, "cosine", "pearson"), abs=1e-10)


@pytest.mark.parametrize("common", [1.0, 100.0, 1e4])
def test_closed_form_stays_exact_where_rows_are_nearly_parallel(common):
    x, y = (space + common for space in make_spaces(num_rows=60))
    # 1 - cos loses its digits here, |z - w|^2 / 2 of unit rows does not.
    distances = [torch.pdist(s / s.norm(dim=1, keepdim=True)).square().numpy() for s in (x, y)]
    assert rsa(x, y) == pytest.approx(np.corrcoef(*distances)[0, 1], abs=1e-8)


def test_float32_agrees_with_float64_where_rows_are_nearly_parallel():
    x, y = (space.float() + 300 for space in make_spaces(num_rows=2000, d1=60, d2=50))
    assert rsa(x, y) == pytest.approx(rsa(x.double(), y.double()), abs=1e-6)


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_zero_row_has_no_cosine(correlation):
    x, y = make_spaces()
    y[4] = 0
    with pytest.raises(ValueError, match="y, row 4: all zeros"):
        rsa(x, y, correlation=correlation)
    assert math.isfinite(rsa(x, y, distance="euclidean", correlation=correlation))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_distances_have_no_correlation(dtype):
    _, y = (space.to(dtype) for space in make_spaces())
    with pytest.raises(ValueError, match="x: all distances are equal, to rounding"):
        rsa(torch.eye(15, dtype=dtype), y)
    with pytest.raises(ValueError, match="x: all distances are equal"):
        rsa(torch.eye(15, dtype=dtype), y, distance="euclidean", correlation="kendall")
    with pytest.raises(ValueError, match="x: every row is the same"):
        rsa(torch.ones(15, 3, dtype=dtype), y)


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_constant_row_has_no_correlation_distance(correlation):
    x, y = make_spaces()
    y[4] = 0.1
    with pytest.raises(ValueError, match="y, row 4: constant"):
        rsa(x, y, distance="correlation", correlation=correlation)
    assert math.isfinite(rsa(x, y, correlation=correlation))


@pytest.mark.parametrize("correlation", ["pearson", "kendall"])
def test_row_that_is_not_finite_is_named(correlation):
    x, y = make_spaces()
    x[7, 2] = math.nan
    with pytest.raises(ValueError, match="x, row 7, column 2: not finite"):
        rsa(x, y, correlation=correlation)


def test_unknown_names_are_answered_with_the_known_ones():
    x, y = make_spaces()
    with pytest.raises(
        ValueError, match=r"'manhattan'.*cosine, correlation, sqeuclidean, euclidean"
    ):
        rsa(x, y, distance="manhattan")
    with pytest.raises(ValueError, match=r"'Pearson'.*pearson, spearman, kendall"):
        rsa(x, y, correlation="Pearson")


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_shapes_that_do_not_fit_are_refused(correlation):
    x, y = make_spaces()
    with pytest.raises(ValueError, match="x has 15 rows and y 14"):
        rsa(x, y[:14], correlation=correlation)
    with pytest.raises(ValueError, match="at least 3 rows, not 2"):
        rsa(x[:2], y[:2], correlation=correlation)
