import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes

from alignctl.metrics.feature_space import InMemory
from alignctl.metrics.procrustes import procrustes
from alignctl.metrics.reduction import reduced


def make_spaces(seed=0, num_rows=40, d1=5, d2=5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x + 2, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def distance_of(x, y):
    return procrustes(*reduced(InMemory(x), InMemory(y)))


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


@pytest.mark.parametrize(("num_rows", "dim"), [(20, 7), (9, 7), (8, 60)])
def test_distance_never_leaves_its_range(num_rows, dim):
    for seed in range(30):
        x, _ = make_spaces(seed, num_rows, dim)
        for y in (x, x @ rotation(dim, seed), -3 * x + 1, x.float()):
            assert 0 <= distance_of(x, y) < 1e-12
        x -= x.mean(dim=0)
        others = torch.cat([x, 0 * x]), torch.cat([0 * x, x])
        assert 2 - 1e-12 < distance_of(*others) <= 2


@pytest.mark.parametrize("noise", [1e-3, 1e-6, 1e-9])
def test_small_distance_has_as_many_digits_as_a_large_one(noise):
    (x, _), (z, _) = make_spaces(0), make_spaces(1)
    a, b = (space - space.mean(dim=0) for space in (x, x + noise * z))
    a, b = a / a.norm(), b / b.norm()
    left, _, right = torch.linalg.svd(a.T @ b)
    expected = float((a @ left @ right - b).square().sum())
    assert distance_of(x, x + noise * z) == pytest.approx(expected, rel=1e-16 / noise + 1e-9)


def test_wider_space_than_images_has_the_distance_of_its_definition():
    x, y = make_spaces(num_rows=12, d1=50, d2=40)
    a, b = (space - space.mean(dim=0) for space in (x, y))
    shared = float(torch.linalg.svdvals(a.T @ b).sum() / a.norm() / b.norm())
    assert distance_of(x, y) == pytest.approx(2 - 2 * shared, abs=1e-12)


@pytest.mark.parametrize("scale", [1e160, 1e-160, 1e300, 1e-290])
def test_size_of_the_features_does_not_matter(scale):
    x, y = make_spaces()
    assert distance_of(x * scale, y) == pytest.approx(distance_of(x, y), abs=1e-12)


def test_constant_space_is_named():
    x, y = make_spaces()
    with pytest.raises(ValueError, match=r"^x: every row is the same$"):
        distance_of(torch.ones_like(x), y)
    with pytest.raises(ValueError, match=r"^y: every row is the same$"):
        distance_of(x, torch.ones_like(y))
