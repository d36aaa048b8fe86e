import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from alignctl.metrics.cca import pwcca, svcca

METRICS = pytest.mark.parametrize("metric", [svcca, pwcca])


def make_spaces(seed=0, num_rows=80, d1=6, d2=4):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    x = x * torch.linspace(0.5, 2, d1)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x + 2, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def products(x, y):
    x, y = (space.double() - space.double().mean(dim=0) for space in (x, y))
    return x.T @ y, x.T @ x, y.T @ y


def random_matrix(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def rotation(dim, seed):
    return torch.linalg.qr(random_matrix(dim, dim, seed))[0]


def naive_svcca(x, y, variance):
    """Cosines of the angles between the spaces that the leading singular vectors span."""
    kept = []
    for space in (x, y):
        left, values, _ = np.linalg.svd(np.asarray(space - space.mean(dim=0)), full_matrices=False)
        shares = [sum(values[:count] ** 2) / sum(values**2) for count in range(len(values) + 1)]
        kept.append(left[:, : next(c for c, share in enumerate(shares) if share >= variance)])
    return np.cos(subspace_angles(*kept)).mean()


def naive_pwcca(x, y):
    """With the canonical variates as vectors over images."""
    x, y = (np.asarray(space - space.mean(dim=0)) for space in (x, y))
    basis_x, basis_y = np.linalg.qr(x)[0], np.linalg.qr(y)[0]
    left, correlations, _ = np.linalg.svd(basis_x.T @ basis_y)
    weights = [sum(abs(variate @ neuron) for neuron in x.T) for variate in (basis_x @ left).T]
    weights = weights[: len(correlations)]
    return sum(w * c for w, c in zip(weights, correlations, strict=True)) / sum(weights)


@pytest.mark.parametrize("variance", [0.3, 0.8, 0.99])
@pytest.mark.parametrize(("d1", "d2"), [(6, 4), (4, 6), (5, 5)])
def test_svcca_matches_the_angles_between_leading_subspaces(variance, d1, d2):
    x, y = make_spaces(d1=d1, d2=d2)
    expected = naive_svcca(x, y, variance)
    assert svcca(*products(x, y), variance=variance) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("d1", "d2"), [(6, 4), (4, 6), (5, 5), (1, 3)])
def test_pwcca_matches_its_definition(d1, d2):
    x, y = make_spaces(d1=d1, d2=d2)
    assert pwcca(*products(x, y)) == pytest.approx(naive_pwcca(x, y), abs=1e-10)


def test_svcca_keeps_99_percent_of_the_variance_unless_told_otherwise():
    x, y = make_spaces()
    # A direction with too little variance to count, that the two spaces would share.
    shared = 1e-3 * random_matrix(len(x), 1, 5)
    x, y = torch.cat([x, shared], dim=1), torch.cat([y, shared], dim=1)
    assert svcca(*products(x, y)) == pytest.approx(naive_svcca(x, y, 0.99), abs=1e-10)
    assert svcca(*products(x, y), variance=1) > svcca(*products(x, y)) + 0.01


@METRICS
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_score_is_invariant_to_scaling_translation_order_and_rotation_of_the_second_space(
    metric, seed, scale, shift
):
    x, y = make_spaces(seed)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    moved = scale * (y @ rotation(4, seed)) + shift
    found = metric(*products(scale * x[order] - shift, moved[order]))
    assert found == pytest.approx(metric(*products(x, y)), abs=1e-8)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000))
def test_svcca_is_symmetric_and_invariant_to_rotation(seed):
    x, y = make_spaces(seed)
    expected = svcca(*products(x, y))
    assert svcca(*products(y, x)) == pytest.approx(expected, abs=1e-9)
    assert svcca(*products(x @ rotation(6, seed), y)) == pytest.approx(expected, abs=1e-8)


def test_pwcca_is_invariant_to_linear_maps_of_the_second_space_and_not_symmetric():
    x, y = make_spaces()
    expected = pwcca(*products(x, y))
    assert pwcca(*products(x, y @ random_matrix(4, 4, 1))) == pytest.approx(expected, abs=1e-9)
    assert abs(pwcca(*products(y, x)) - expected) > 0.01


def test_pwcca_counts_what_the_first_space_is_made_of():
    signal, noise_x, noise_y = (random_matrix(2000, 1, seed) for seed in range(3))
    y = torch.cat([signal, noise_y], dim=1)
    mostly_shared = torch.cat([10 * signal, noise_x], dim=1)
    mostly_other = torch.cat([signal, 10 * noise_x], dim=1)
    assert pwcca(*products(mostly_shared, y)) > 0.9
    assert pwcca(*products(mostly_other, y)) < 0.2


def test_same_space_scores_1_rotated_for_svcca_and_mapped_for_pwcca():
    x, _ = make_spaces()
    assert svcca(*products(x, x @ rotation(6, 1))) == pytest.approx(1, abs=1e-10)
    assert pwcca(*products(x, x @ random_matrix(6, 6, 1))) == pytest.approx(1, abs=1e-10)


def test_directions_of_rounding_alone_are_left_out():
    x, y = make_spaces()
    # Twelve dimensions that hold six, in no axis of their own.
    wide = torch.cat([x, x @ rotation(6, 1)], dim=1) @ rotation(12, 2)
    expected = svcca(*products(x, y), variance=1)
    assert svcca(*products(wide, y), variance=1) == pytest.approx(expected, abs=1e-8)
    expected = pwcca(*products(y, x))
    assert pwcca(*products(y, wide)) == pytest.approx(expected, abs=1e-8)


def test_unrelated_spaces_score_1_where_images_are_too_few():
    few = products(random_matrix(12, 11, 0), random_matrix(12, 11, 1))
    assert svcca(*few, variance=1) == pytest.approx(1, abs=1e-6)
    assert pwcca(*few) == pytest.approx(1, abs=1e-6)
    many = products(random_matrix(4000, 11, 0), random_matrix(4000, 11, 1))
    assert svcca(*many, variance=1) < 0.05
    assert pwcca(*many) < 0.05


@METRICS
def test_narrow_features_far_from_the_origin_agree_with_float64(metric):
    x, y = (space.half() + 100 for space in make_spaces(num_rows=400))
    assert metric(*products(x, y)) == pytest.approx(
        metric(*products(x.double() - 100, y)), abs=1e-8
    )


@METRICS
def test_constant_space_is_named(metric):
    x, y = make_spaces()
    with pytest.raises(ValueError, match=r"^x: every row is the same$"):
        metric(*products(torch.ones_like(x), y))
    with pytest.raises(ValueError, match=r"^y: every row is the same$"):
        metric(*products(x, torch.ones_like(y)))
