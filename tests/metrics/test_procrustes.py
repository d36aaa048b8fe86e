import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes

from alignctl.metrics.procrustes import procrustes


def make_spaces(seed=0, num_rows=40, d1=5, d2=5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x + 2, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def distance_of(x, y):
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return procrustes(x.T @ y, x.T @ x, y.T @ y)


def rotation(dim, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]


def test_distance_matches_what_the_best_rotation_leaves():
    x, y = make_spaces()
    a, b = (np.asarray(space - space.mean(dim=0)) for space in (x, y))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    best, _ = orthogonal_procrustes(a, b)
    assert distance_of(x, y) == pytest.approx(np.sum((a @ best - b) ** 2), abs=1e-12)
    for seed in range(20):
        assert distance_of(x, y) < np.sum((a @ rotation(5, seed).numpy() - b) ** 2)


def test_narrower_space_is_padded_with_zeros():
    x, y = make_spaces(d1=5, d2=3)
    padded = torch.cat([y, torch.zeros(len(y), 2)], dim=1)
    assert distance_of(x, y) == pytest.approx(distance_of(x, padded), abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_distance_is_symmetric_and_invariant_to_rotation_scaling_and_order(seed, scale, shift):
    x, y = make_spaces(seed)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    moved = scale * (x @ rotation(5, seed)) + shift
    assert distance_of(moved[order], y[order]) == pytest.approx(distance_of(x, y), abs=1e-9)
    assert distance_of(y, x) == pytest.approx(distance_of(x, y), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_root_of_the_distance_obeys_the_triangle_inequality(seed):
    (x, y), (z, _) = make_spaces(seed), make_spaces(seed + 100)
    sides = sorted(distance_of(*pair) ** 0.5 for pair in ((x, y), (y, z), (x, z)))
    assert sides[2] < sides[0] + sides[1]


def test_distance_is_0_for_the_same_space_and_2_for_uncorrelated_ones():
    x, _ = make_spaces()
    assert distance_of(x, x @ rotation(5, 1)) == pytest.approx(0, abs=1e-12)
    directions = rotation(8, 0) - rotation(8, 0).mean(dim=0)
    left, _, _ = torch.linalg.svd(directions)
    assert distance_of(left[:, :3], left[:, 3:6]) == pytest.approx(2, abs=1e-12)


def test_constant_space_is_named():
    x, y = make_spaces()
    with pytest.raises(ValueError, match=r"^x: every row is the same$"):
        distance_of(torch.ones_like(x), y)
    with pytest.raises(ValueError, match=r"^y: every row is the same$"):
        distance_of(x, torch.ones_like(y))
