import functools
import itertools
import math

import numpy as np
import pytest
import references
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import rotation

from alignctl.metrics import pairs
from alignctl.metrics.pairs import balanced_groups, pair_rsa

make_spaces = functools.partial(references.make_spaces, num_rows=14)
DISTANCES = ["cosine", "correlation", "sqeuclidean", "euclidean"]
CORRELATIONS = ["pearson", "spearman", "kendall"]


def make_grid_spaces(seed=0, num_rows=14):
    """Whole numbers: many distances are equal, and some rows."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 3, (num_rows, 3), generator=generator).double()
    return x, x + torch.randint(0, 2, (num_rows, 3), generator=generator)


def compare(x, y, distance="euclidean", correlation="pearson", max_pairs=10**6, seed=0):
    return pair_rsa(
        x, y, distance=distance, correlation=correlation, max_pairs=max_pairs, seed=seed
    )


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_value_matches_its_definition(distance, correlation):
    x, y = make_spaces()
    expected = references.rsa(x, y, distance, correlation)
    assert compare(x, y, distance, correlation).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distance", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("correlation", ["spearman", "kendall"])
def test_equal_distances_are_ties(distance, correlation):
    x, y = make_grid_spaces()
    expected = references.rsa(x, y, distance, correlation)
    assert compare(x, y, distance, correlation).value == pytest.approx(expected, abs=1e-12)
    shifted = compare(x + 1e6, y, distance, correlation)
    assert shifted.value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_repeated_images_are_at_distance_zero_and_tied(distance):
    # Seven images, each five times: any two copies of one pair are tied.
    x, y = (space.repeat(5, 1) + 3 for space in make_spaces(num_rows=7, d1=37, d2=19))
    first = [(i % 7, j % 7) for i in range(35) for j in range(i + 1, 35)]
    a, b = (
        [0 if i == j else float(references.distance(s[min(i, j)], s[max(i, j)], distance))
         for i, j in first]
        for s in (x, y)
    )  # fmt: skip
    found = compare(x, y, distance, "kendall").value
    assert found == pytest.approx(references.kendall(a, b), abs=1e-12)


def test_three_images_are_enough_and_two_are_not():
    x, y = make_spaces(num_rows=3)
    expected = references.rsa(x, y, "euclidean", "pearson")
    assert compare(x, y).value == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match=r"^RSA needs at least 3 rows, not 2$"):
        compare(x[:2], y[:2])


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_rows_far_from_the_origin_keep_their_digits(distance, correlation):
    x, y = (space + 1e4 for space in make_spaces())
    if distance == "correlation":  # which removes a common offset: give it one that varies
        x = x + 1e4 * torch.arange(x.shape[1])
    expected = references.rsa(x, y, distance, correlation)
    assert compare(x, y, distance, correlation).value == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("distance", DISTANCES)
def test_narrow_features_are_compared_in_float64(dtype, distance):
    x, y = (space.to(dtype) for space in make_spaces(num_rows=30))
    assert compare(x, y, distance) == compare(x.double(), y.double(), distance)
    if dtype == torch.float32:  # half precision ties what its rounding may have told apart
        expected = compare(x.double(), y.double(), distance, "spearman")
        assert compare(x, y, distance, "spearman") == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("correlation", ["spearman", "kendall"])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_rounding_of_narrow_features_ties_no_continuum(distance, correlation, dtype):
    x, y = (space.to(dtype) for space in make_spaces(num_rows=200, d1=32, d2=32))
    expected = compare(x.double(), y.double(), distance, correlation).value
    assert compare(x, y, distance, correlation).value == pytest.approx(expected, abs=2e-6)


def repeated(seed, num_rows=60, dim=40):
    """Ten copies each of a few rows: most distances are equal to many others."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(num_rows // 10, dim, generator=generator, dtype=torch.float64)
    return base.repeat_interleave(10, dim=0)


def scaled_rows(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    return rows * torch.randn(len(rows), 1, generator=generator, dtype=torch.float64).exp()


@pytest.mark.parametrize("correlation", ["spearman", "kendall"])
@pytest.mark.parametrize("distance", ["cosine", "correlation"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [3, 40, 1000])
def test_cosines_that_are_equal_but_for_rounding_are_ties(dtype, distance, correlation, dim):
    rows = repeated(0, dim=dim)
    x, y = (scaled_rows(rows, seed).to(dtype) for seed in (1, 2))
    assert compare(x, y, distance, correlation).value == pytest.approx(1, abs=1e-12)
    other = repeated(3, dim=dim)
    plain = compare(rows.to(dtype), other.to(dtype), distance, correlation)
    scaled = compare(x, scaled_rows(other, 4).to(dtype), distance, correlation)
    assert scaled.value == pytest.approx(plain.value, abs=1e-12)
    assert scaled.standard_error == pytest.approx(plain.standard_error, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_ties_of_half_precision_are_found_where_they_are_far_apart(dtype):
    rows = torch.tensor([[1.0, 0.0], [3.0, 1.0], [1.0, 4.0]], dtype=torch.float64)
    rows = rows.repeat_interleave(10, dim=0)
    x, y = (scaled_rows(rows, seed).to(dtype) for seed in (1, 2))
    for correlation in ("spearman", "kendall"):
        assert compare(x, y, "cosine", correlation).value == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("correlation", ["spearman", "kendall"])
@pytest.mark.parametrize("distance", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "on_grid",
    [
        lambda k: k / 10,
        lambda k: k * 0.1,
        lambda k: k / 3,
        lambda k: 100 + k / 10,
        lambda k: k / 7 - 5,
        lambda k: 1e-6 * k,
    ],
    ids=["tenths", "times a tenth", "thirds", "offset", "sevenths", "small"],
)
def test_distances_on_a_grid_are_ties_where_whole_numbers_are(
    on_grid, dtype, distance, correlation
):
    generator = torch.Generator().manual_seed(0)
    whole = torch.randint(0, 10, (50, 5), generator=generator).double()
    other = torch.randint(0, 3, (50, 4), generator=generator).double()
    grid = on_grid(whole).to(dtype)
    assert compare(grid, whole, distance, correlation).value == pytest.approx(1, abs=1e-12)
    expected = compare(whole, other, distance, correlation).value
    assert compare(grid, other, distance, correlation).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_codes_have_the_ties_of_exact_arithmetic(distance):
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 2, (30, 12), generator=generator).double() + torch.eye(30, 12)
    ints = torch.randint(-3, 4, (30, 5), generator=generator).double() + 0.5 * torch.eye(30, 5)
    lower = [(i, j) for i in range(30) for j in range(i)]
    a, b = (
        # Twelve digits: what is equal in exact arithmetic.
        np.round([float(references.distance(s[i], s[j], distance)) for i, j in lower], 12)
        for s in (bits, ints)
    )
    expected = references.kendall(a, b)
    for dtype in (torch.float16, torch.float32, torch.float64):
        x, y = bits.to(dtype), ints.to(dtype)
        tolerance = 1e-3 if dtype == torch.float16 else 1e-12
        found = compare(x, y, distance, "kendall").value
        assert found == pytest.approx(expected, abs=tolerance)
    turned = bits @ rotation(12, 0)
    found = compare(turned, ints, distance, "kendall").value
    if distance != "correlation":  # which a rotation does not leave as it is
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("correlation", ["spearman", "kendall"])
def test_parallel_rows_have_no_ranks(dtype, correlation):
    _, y = make_spaces()
    parallel = scaled_rows(y[:1].repeat(14, 1), 0).to(dtype)
    with pytest.raises(ValueError, match=r"^x: all distances are equal$"):
        compare(parallel, y, "cosine", correlation)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("size", [1e160, 1.7e308, 1e-160, 1e-300])
def test_numbers_whose_squares_leave_float64_are_compared(distance, correlation, size):
    x, y = (space / space.abs().max() for space in make_spaces(num_rows=24))
    expected = compare(x, y, distance, correlation)
    for a, b in ((x * size, y), (x, y * size), (x * size, y * size), (x * size, y / 1e150)):
        found = compare(a, b, distance, correlation)
        assert found.value == pytest.approx(expected.value, abs=1e-12)
        assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-9)


def test_rows_of_very_different_lengths_keep_their_cosines():
    x, y = make_spaces()
    sizes = torch.logspace(-300, 300, len(x), dtype=torch.float64)[:, None]
    for distance in ("cosine", "correlation"):
        expected = compare(x, y, distance, "spearman").value
        found = compare(x * sizes, y, distance, "spearman").value
        assert found == pytest.approx(expected, abs=1e-12)


def test_one_image_far_out_leaves_the_order_of_the_others():
    x, y = (space.float() for space in make_spaces(num_rows=40))
    x[7] *= 1e7
    expected = compare(x.double(), y.double(), "euclidean", "kendall").value
    assert compare(x, y, "euclidean", "kendall").value == pytest.approx(expected, abs=5e-3)


def test_features_may_be_mapped_from_a_file(tmp_path):
    x, y = make_spaces(num_rows=30)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = torch.from_file(
        str(tmp_path / "x.npy"), size=16 + x.numel(), dtype=torch.float64, shared=False
    )[16:].reshape(x.shape)
    assert compare(mapped, y) == compare(x, y)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("max_pairs", [10**6, 100])
def test_blocks_change_nothing(monkeypatch, distance, max_pairs):
    x, y = make_spaces(num_rows=31)
    expected = compare(x, y, distance, max_pairs=max_pairs)
    monkeypatch.setattr(pairs, "_BLOCK", 70)  # two columns of all rows, or one small group
    found = compare(x, y, distance, max_pairs=max_pairs)
    assert found.value == pytest.approx(expected.value, abs=1e-13)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-10)


@settings(deadline=None)
@given(num_images=st.integers(3, 300), max_pairs=st.integers(1, 50_000), seed=st.integers(0, 9))
def test_groups_are_balanced_and_within_the_limit(num_images, max_pairs, seed):
    groups = balanced_groups(num_images, max_pairs, seed)
    num_groups, size = groups.shape
    assert len(np.unique(groups)) == groups.size
    assert set(groups.ravel()) <= set(range(num_images))
    assert num_images - groups.size < size
    if num_images * (num_images - 1) // 2 <= max_pairs:
        assert (num_groups, size) == (1, num_images)
    elif size > 2:
        assert num_groups * size * (size - 1) // 2 <= max_pairs


def test_groups_are_drawn_by_the_seed_and_not_in_the_order_of_the_images():
    first, again, other = (balanced_groups(1000, 5000, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    # Ten images spread over all 1000, not over neighbours or classes that come one after another.
    assert np.ptp(first, axis=1).min() > 200


def test_few_images_are_left_out_where_a_smaller_group_avoids_it():
    # Groups of 2001 would leave out 1996 of these images.
    assert balanced_groups(10_000, 10_000_000, 0).shape == (5, 2000)


def test_sample_compares_the_pairs_within_its_groups():
    x, y = make_spaces(num_rows=40)
    groups = balanced_groups(40, 100, seed=3)
    couples = [pair for group in groups for pair in itertools.combinations(group, 2)]
    a, b = ([references.distance(s[i], s[j], "euclidean") for i, j in couples] for s in (x, y))
    found = compare(x, y, max_pairs=100, seed=3).value
    assert found == pytest.approx(float(references.pearson(a, b)), abs=1e-12)


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_sample_is_a_function_of_its_seed_and_near_the_exact_value(correlation):
    x, y = make_spaces(num_rows=400)
    exact = compare(x, y, correlation=correlation)
    first, again, other = (
        compare(x, y, correlation=correlation, max_pairs=8000, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.value != other.value
    assert abs(first.value - exact.value) < 2 * first.standard_error
    assert exact.standard_error < first.standard_error < 1.5 * exact.standard_error


@pytest.mark.parametrize("make", [make_spaces, make_grid_spaces])
@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_standard_error_agrees_with_leaving_out_one_image_at_a_time(make, correlation):
    n = 80
    x, y = make(num_rows=n)
    kept = [[j for j in range(n) if j != i] for i in range(n)]
    left_out = np.array([compare(x[k], y[k], correlation=correlation).value for k in kept])
    jackknife = math.sqrt((n - 1) * left_out.var())
    found = compare(x, y, correlation=correlation).standard_error
    assert found == pytest.approx(jackknife, rel=1e-9 if correlation == "pearson" else 0.08)


@pytest.mark.parametrize(
    ("distance", "correlation", "num_rows", "max_pairs"),
    [
        ("euclidean", "spearman", 150, 2000),
        ("cosine", "pearson", 600, 300),
        pytest.param("euclidean", "pearson", 150, 10**6, marks=pytest.mark.soak),
        pytest.param("cosine", "pearson", 150, 2000, marks=pytest.mark.soak),
        pytest.param("cosine", "spearman", 150, 10**6, marks=pytest.mark.soak),
        pytest.param("cosine", "kendall", 150, 2000, marks=pytest.mark.soak),
    ],
)
def test_intervals_cover_the_value_of_the_source(distance, correlation, num_rows, max_pairs):
    truth = compare(*make_spaces_of_source(0, 20_000), distance, correlation, 200_000).value
    found = [
        compare(*make_spaces_of_source(seed, num_rows), distance, correlation, max_pairs, seed)
        for seed in range(1, 201)
    ]
    deviation = np.std([estimate.value for estimate in found])
    ratio = np.mean([estimate.standard_error for estimate in found]) / deviation
    assert 0.87 < ratio < 1.15
    intervals = [estimate.interval(0.95) for estimate in found]
    assert 0.90 < np.mean([low <= truth <= high for low, high in intervals]) < 0.985


def make_spaces_of_source(seed, num_rows):
    """Two noisy views of three factors."""
    mixing = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(num_rows, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, num_rows, 6, generator=generator, dtype=torch.float64)
    return list(factors @ mixing + 0.7 * noise + 0.3)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("max_pairs", [10**6, 60])
def test_same_space_agrees_without_error(correlation, max_pairs):
    x, _ = make_spaces(num_rows=25)
    found = compare(x, x, correlation=correlation, max_pairs=max_pairs)
    assert found.value == pytest.approx(1, abs=1e-14)
    assert found.standard_error == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("max_pairs", [10**6, 30])
def test_row_without_a_direction_is_named(max_pairs):
    x, y = make_spaces(num_rows=20)
    x[7], y[11] = 0, 0.1
    with pytest.raises(ValueError, match=r"^x, row 7: all zeros, so it has no cosine$"):
        compare(x, y, "cosine", max_pairs=max_pairs)
    with pytest.raises(
        ValueError, match=r"^y, row 11: constant, so it has no correlation distance$"
    ):
        compare(make_spaces(num_rows=20)[0], y, "correlation", max_pairs=max_pairs)
    assert math.isfinite(compare(x, y, max_pairs=max_pairs).value)


@pytest.mark.parametrize("width", [3, 10, 49, 1000])
def test_constant_row_is_found_where_its_mean_is_rounded(width):
    x, y = make_spaces(d2=width)
    y[2] = 0.1
    with pytest.raises(
        ValueError, match=r"^y, row 2: constant, so it has no correlation distance$"
    ):
        compare(x, y, "correlation")


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_distances_that_differ_by_rounding_are_equal(correlation):
    _, y = make_spaces()
    simplex = torch.eye(14, dtype=torch.float64) @ rotation(14, 0) + 0.1
    with pytest.raises(ValueError, match=r"^x: all distances are equal$"):
        compare(simplex, y, correlation=correlation)
    parallel = y[:1] * torch.arange(1, 15)[:, None] / 3
    with pytest.raises(ValueError, match=r"^y: all distances are equal$"):
        compare(y, parallel, "cosine", correlation)


def test_fewer_pairs_than_two_for_each_two_images_are_refused():
    x, y = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="pairs=14 is less than half of 30 images"):
        pair_rsa(x, y, distance="cosine", correlation="pearson", max_pairs=14, seed=0)
    found = pair_rsa(x, y, distance="cosine", correlation="pearson", max_pairs=15, seed=0)
    assert found.num_images == 30
