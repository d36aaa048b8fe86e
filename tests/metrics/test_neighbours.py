import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignctl.metrics import neighbours
from alignctl.metrics.neighbours import knn_overlap

BOTH = pytest.mark.parametrize("distance", ["cosine", "euclidean"])


def make_spaces(seed=0, num_rows=30, d1=6, d2=4):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def rotation(dim, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]


def naive_distance(a, b, distance):
    a, b = (np.asarray(row, dtype=np.longdouble) for row in (a, b))
    if distance == "cosine":
        return 1 - (a @ b) / np.sqrt((a @ a) * (b @ b))
    return ((a - b) ** 2).sum()


def naive_overlap(x, y, k, distance):
    """Equal distances in the order of the rows: sorted is stable."""
    shared = 0
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        near = [
            set(sorted(others, key=lambda j, s=space: naive_distance(s[i], s[j], distance))[:k])
            for space in (x, y)
        ]
        shared += len(near[0] & near[1])
    return shared / (k * len(x))


@BOTH
@pytest.mark.parametrize("k", [1, 5, 29])
def test_overlap_matches_its_definition(distance, k):
    x, y = make_spaces()
    assert knn_overlap(x, y, k=k, distance=distance) == naive_overlap(x, y, k, distance)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), k=st.integers(1, 10))
def test_ties_go_to_the_lower_row(seed, k):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randint(0, 3, (2, 20, 2), generator=generator).double()
    expected = naive_overlap(x, y, k, "euclidean")
    assert knn_overlap(x, y, k=k, distance="euclidean") == expected
    assert knn_overlap(x / 4 + 1e6, y, k=k, distance="euclidean") == expected


@BOTH
def test_images_that_are_nearly_all_the_same_have_the_first_rows_as_neighbours(distance):
    x, y = make_spaces()
    same = x[:1].repeat(len(x), 1) / 3
    same[-1] += 1
    expected = naive_overlap(same, y, 3, distance)
    assert knn_overlap(same, y, k=3, distance=distance) == expected
    # Equal up to rounding, which is no order either.
    parallel = x[:1] / 3 * torch.arange(1, 31)[:, None]
    assert knn_overlap(parallel, parallel.flip(1), k=3, distance="cosine") == 1


@BOTH
def test_images_that_are_all_the_same_have_no_neighbours(distance):
    x, y = make_spaces()
    with pytest.raises(ValueError, match="y: every row is the same"):
        knn_overlap(y, x[:1].repeat(len(x), 1), k=3, distance=distance)


@BOTH
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_overlap_is_symmetric_and_invariant_to_rotation_scaling_and_order(distance, seed, scale):
    x, y = make_spaces(seed)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    moved = scale * (x @ rotation(6, seed))
    expected = knn_overlap(x, y, k=5, distance=distance)
    assert knn_overlap(moved[order], y[order], k=5, distance=distance) == expected
    assert knn_overlap(y, x, k=5, distance=distance) == expected


def test_cosine_is_invariant_to_the_lengths_of_rows_and_euclidean_to_translation():
    x, y = make_spaces()
    lengths = torch.linspace(0.1, 10, len(x), dtype=torch.float64)[:, None]
    for distance, moved in (("cosine", x * lengths), ("euclidean", x + 5)):
        expected = knn_overlap(x, y, k=5, distance=distance)
        assert knn_overlap(moved, y, k=5, distance=distance) == expected


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
