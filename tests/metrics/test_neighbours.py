import functools
from fractions import Fraction

import numpy as np
import pytest
import references
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignctl.metrics import neighbours
from alignctl.metrics.neighbours import knn_overlap

make_spaces = functools.partial(references.make_spaces, num_rows=30)
BOTH = pytest.mark.parametrize("distance", ["cosine", "euclidean"])


def naive_shares(space, i, k, distance):
    """Each image's share in the k nearest of image i; what is equal shares the places left."""
    kind = "sqeuclidean" if distance == "euclidean" else distance  # exact ties of whole numbers
    found = {j: references.distance(space[i], space[j], kind) for j in range(len(space)) if j != i}
    last = sorted(found.values())[k - 1]
    is_tied = {j: abs(value - last) < 1e-18 + 1e-13 * last for j, value in found.items()}
    nearer = [j for j, value in found.items() if value < last and not is_tied[j]]
    share = Fraction(k - len(nearer), int(sum(is_tied.values())))
    return {j: 1 if j in nearer else share * bool(is_tied[j]) for j in found}


def naive_overlap(x, y, k, distance):
    shared = Fraction(0)
    for i in range(len(x)):
        a, b = (naive_shares(space, i, k, distance) for space in (x, y))
        shared += sum(a[j] * b[j] for j in a)
    return float(shared / (k * len(x)))


def overlap_of_random_draws(x, y, k, rng):
    """k nearest neighbours where each space breaks its ties by a random order of the images."""
    shared = 0
    for i in range(len(x)):
        near = []
        for space in (x, y):
            others = [j for j in rng.permutation(len(x)) if j != i]  # sorted() is stable
            others.sort(key=lambda j, s=space: float(((s[i] - s[j]) ** 2).sum()))
            near.append(set(others[:k]))
        shared += len(near[0] & near[1])
    return shared / (k * len(x))


def one_hot(labels):
    return torch.eye(int(labels.max()) + 1, dtype=torch.float64)[labels]


@BOTH
@pytest.mark.parametrize("k", [1, 5, 29])
def test_overlap_matches_its_definition(distance, k):
    x, y = make_spaces()
    assert knn_overlap(x, y, k=k, distance=distance) == naive_overlap(x, y, k, distance)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), k=st.integers(1, 10))
def test_ties_share_the_places_that_are_left(seed, k):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randint(0, 3, (2, 20, 2), generator=generator).double()
    expected = naive_overlap(x, y, k, "euclidean")
    assert knn_overlap(x, y, k=k, distance="euclidean") == pytest.approx(expected, abs=1e-14)
    moved = knn_overlap(x / 4 + 1e6, y, k=k, distance="euclidean")
    assert moved == pytest.approx(expected, abs=1e-14)


def test_overlap_of_ties_is_what_random_draws_among_them_give_on_average():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 3, (2, 12, 2)).astype(float)
    draws = [overlap_of_random_draws(x, y, 4, rng) for _ in range(400)]
    found = knn_overlap(torch.from_numpy(x), torch.from_numpy(y), k=4, distance="euclidean")
    assert abs(np.mean(draws) - found) < 4 * np.std(draws) / 20
    assert np.std(draws) > 0.02  # it is the ties that decide


@BOTH
def test_unrelated_codes_of_classes_agree_by_chance(distance):
    rng = np.random.default_rng(0)
    classes = np.arange(1000) % 10
    x, y = (one_hot(torch.from_numpy(labels)) for labels in (classes, rng.permutation(classes)))
    assert knn_overlap(x, y, k=10, distance=distance) == pytest.approx(10 / 999, abs=1e-3)
    # Ten of 99 images that are all the same: each is drawn by both spaces once in 9.9 * 9.9 times.
    assert knn_overlap(x, x, k=10, distance=distance) == pytest.approx(10 / 99, abs=1e-12)


@BOTH
@pytest.mark.parametrize("make", ["classes", "bits", "int8", "repeated"])
def test_order_of_rows_does_not_matter_among_ties(make, distance):
    rng = np.random.default_rng(1)
    spaces = {
        "classes": lambda: np.eye(5)[rng.integers(0, 5, 60)],
        "bits": lambda: rng.integers(0, 2, (60, 8)) + np.eye(60, 8),
        "int8": lambda: rng.integers(-2, 3, (60, 3)) + np.array([0.0, 0.0, 9.0]),
        "repeated": lambda: np.repeat(rng.normal(size=(12, 5)), 5, axis=0),
    }
    x, y = (torch.from_numpy(spaces[make]()) for _ in range(2))
    expected = knn_overlap(x, y, k=7, distance=distance)
    assert expected == pytest.approx(naive_overlap(x, y, 7, distance), abs=1e-12)
    for _ in range(3):
        order = torch.from_numpy(rng.permutation(60))
        found = knn_overlap(x[order], y[order], k=7, distance=distance)
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_were_rescaled_are_tied_as_they_were_before(dtype):
    rng = np.random.default_rng(2)
    base = [np.repeat(rng.normal(size=(8, 24)), 6, axis=0) for _ in range(2)]
    lengths = np.exp(rng.normal(size=(2, 48, 1)))
    x, y = (torch.from_numpy(space).to(dtype) for space in base)
    scaled = [torch.from_numpy(b * s).to(dtype) for b, s in zip(base, lengths, strict=True)]
    for k in (3, 8):
        expected = naive_overlap(*base, k, "cosine")
        for pair in ((x, y), scaled):
            assert knn_overlap(*pair, k=k, distance="cosine") == pytest.approx(expected, abs=1e-12)


@BOTH
def test_images_that_are_nearly_all_the_same_share_their_places(distance):
    x, y = make_spaces()
    same = x[:1].repeat(len(x), 1) / 3
    same[-1] += 1
    expected = naive_overlap(same, y, 3, distance)
    assert knn_overlap(same, y, k=3, distance=distance) == pytest.approx(expected, abs=1e-14)
    # Equal up to rounding, which is no order either.
    parallel = x[:1] / 3 * torch.arange(1, 31)[:, None]
    found = knn_overlap(parallel, parallel.flip(1), k=3, distance="cosine")
    assert found == pytest.approx(3 / 29, abs=1e-14)


@BOTH
@pytest.mark.parametrize("size", [1e160, 1.7e308, 1e-160, 1e-300])
def test_overlap_of_numbers_whose_squares_leave_float64(distance, size):
    x, y = make_spaces()
    x, y = x / x.abs().max(), y / y.abs().max()
    expected = knn_overlap(x, y, k=5, distance=distance)
    assert knn_overlap(x * size, y, k=5, distance=distance) == expected
    assert knn_overlap(x, y / size if size < 1 else y * size, k=5, distance=distance) == expected


def test_rows_of_very_different_lengths_keep_their_cosines():
    x, y = make_spaces()
    sizes = torch.logspace(-300, 300, len(x), dtype=torch.float64)[:, None]
    expected = knn_overlap(x, y, k=5, distance="cosine")
    assert knn_overlap(x * sizes, y, k=5, distance="cosine") == expected


@BOTH
def test_images_that_are_all_the_same_have_no_neighbours(distance):
    x, y = make_spaces()
    with pytest.raises(ValueError, match="y: every row is the same"):
        knn_overlap(y, x[:1].repeat(len(x), 1), k=3, distance=distance)


@BOTH
def test_same_space_overlaps_wholly_and_unrelated_ones_by_chance(distance):
    x, _ = make_spaces(num_rows=600)
    other, _ = make_spaces(num_rows=600, seed=1)
    assert knn_overlap(x, x, k=10, distance=distance) == 1
    assert knn_overlap(x, other, k=10, distance=distance) == pytest.approx(10 / 599, abs=0.01)
    assert knn_overlap(x, other, k=599, distance=distance) == 1


@BOTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_rows_far_from_the_origin_keep_their_neighbours(distance, dtype):
    x, y = (space.to(dtype) + 100 for space in make_spaces())
    assert knn_overlap(x, y, k=5, distance=distance) == naive_overlap(x, y, 5, distance)


@BOTH
def test_common_offset_makes_no_ties(distance):
    x, y = (space + 1e7 for space in make_spaces())
    assert knn_overlap(x, y, k=5, distance=distance) == naive_overlap(x, y, 5, distance)


@BOTH
def test_blocks_change_nothing(monkeypatch, distance):
    x, y = make_spaces(num_rows=31)
    expected = knn_overlap(x, y, k=5, distance=distance)
    monkeypatch.setattr(neighbours, "_BLOCK", 7)
    assert knn_overlap(x, y, k=5, distance=distance) == expected


def test_too_few_rows_are_refused():
    x, y = make_spaces(num_rows=8)
    with pytest.raises(ValueError, match=r"^k=10 needs more than 10 rows, not 8$"):
        knn_overlap(x, y, k=10, distance="cosine")
    with pytest.raises(ValueError, match=r"^k=8 needs more than 8 rows, not 8$"):
        knn_overlap(x, y, k=8, distance="euclidean")


def test_zero_row_has_no_cosine():
    x, y = make_spaces()
    y[7] = 0
    with pytest.raises(ValueError, match=r"^y, row 7: all zeros, so it has no cosine$"):
        knn_overlap(x, y, k=3, distance="cosine")
    assert 0 < knn_overlap(x, y, k=3, distance="euclidean") < 1
