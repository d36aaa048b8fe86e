import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

from alignctl.metrics.cca import pwcca, svcca, svcca_estimate
from alignctl.metrics.feature_space import InMemory
from alignctl.metrics.reduction import reduced

METRICS = pytest.mark.parametrize("metric", [svcca, pwcca])


def make_spaces(seed=0, num_rows=80, d1=6, d2=4):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    x = x * torch.linspace(0.5, 2, d1)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x + 2, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def centred(x, y):
    return reduced(InMemory(x), InMemory(y))


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
@pytest.mark.parametrize(("d1", "d2"), [(6, 4), (4, 6), (5, 5), (100, 90), (3, 120)])
def test_svcca_matches_the_angles_between_leading_subspaces(variance, d1, d2):
    x, y = make_spaces(d1=d1, d2=d2)
    expected = naive_svcca(x, y, variance)
    assert svcca(*centred(x, y), variance=variance) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("d1", "d2"), [(6, 4), (4, 6), (5, 5), (1, 3)])
def test_pwcca_matches_its_definition(d1, d2):
    x, y = make_spaces(d1=d1, d2=d2)
    assert pwcca(*centred(x, y)) == pytest.approx(naive_pwcca(x, y), abs=1e-10)


def test_svcca_keeps_99_percent_of_the_variance_unless_told_otherwise():
    x, y = make_spaces()
    # A direction with too little variance to count, that the two spaces would share.
    shared = 1e-3 * random_matrix(len(x), 1, 5)
    x, y = torch.cat([x, shared], dim=1), torch.cat([y, shared], dim=1)
    assert svcca(*centred(x, y)) == pytest.approx(naive_svcca(x, y, 0.99), abs=1e-10)
    assert svcca(*centred(x, y), variance=1) > svcca(*centred(x, y)) + 0.01


def test_pwcca_is_invariant_to_linear_maps_of_the_second_space_and_not_symmetric():
    x, y = make_spaces()
    expected = pwcca(*centred(x, y))
    assert pwcca(*centred(x, y @ random_matrix(4, 4, 1))) == pytest.approx(expected, abs=1e-9)
    assert abs(pwcca(*centred(y, x)) - expected) > 0.01


def test_pwcca_counts_what_the_first_space_is_made_of():
    signal, noise_x, noise_y = (random_matrix(2000, 1, seed) for seed in range(3))
    y = torch.cat([signal, noise_y], dim=1)
    mostly_shared = torch.cat([10 * signal, noise_x], dim=1)
    mostly_other = torch.cat([signal, 10 * noise_x], dim=1)
    assert pwcca(*centred(mostly_shared, y)) > 0.9
    assert pwcca(*centred(mostly_other, y)) < 0.2


def test_same_space_scores_1_rotated_for_svcca_and_mapped_for_pwcca():
    x, _ = make_spaces()
    assert svcca(*centred(x, x @ rotation(6, 1))) == pytest.approx(1, abs=1e-10)
    assert pwcca(*centred(x, x @ random_matrix(6, 6, 1))) == pytest.approx(1, abs=1e-10)


def test_directions_of_rounding_alone_are_left_out():
    x, y = make_spaces()
    # Twelve dimensions that hold six, in no axis of their own.
    wide = torch.cat([x, x @ rotation(6, 1)], dim=1) @ rotation(12, 2)
    expected = svcca(*centred(x, y), variance=1)
    assert svcca(*centred(wide, y), variance=1) == pytest.approx(expected, abs=1e-8)
    expected = pwcca(*centred(y, x))
    assert pwcca(*centred(y, wide)) == pytest.approx(expected, abs=1e-8)


def test_unrelated_spaces_score_1_where_images_are_too_few():
    few = centred(random_matrix(12, 11, 0), random_matrix(12, 11, 1))
    assert svcca(*few, variance=1) == pytest.approx(1, abs=1e-12)
    many = centred(random_matrix(4000, 11, 0), random_matrix(4000, 11, 1))
    assert svcca(*many, variance=1) < 0.05
    assert pwcca(*many) < 0.05


@pytest.mark.parametrize("condition", [1e5, 1e7, 1e9])
@pytest.mark.parametrize(("num_rows", "dim"), [(200, 10), (20, 10), (12, 200)])
def test_small_directions_keep_their_digits(num_rows, dim, condition):
    rank = min(num_rows - 2, dim)
    sizes = torch.logspace(0, -float(np.log10(condition)), rank, dtype=torch.float64)
    basis, other = (torch.linalg.qr(random_matrix(num_rows, rank, seed))[0] for seed in (0, 1))
    axes = torch.linalg.qr(random_matrix(dim, rank, 2))[0]
    x, y = (part * sizes @ axes.T for part in (basis, basis + 0.1 * other))
    found = svcca(*centred(x, y), variance=1)
    assert found <= 1
    bases = (torch.linalg.qr(part - part.mean(dim=0))[0] for part in (basis, basis + 0.1 * other))
    expected = np.cos(subspace_angles(*(part.numpy() for part in bases))).mean()
    assert found == pytest.approx(expected, abs=1e-14 * condition + 1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_score_of_a_space_and_itself_never_passes_1(seed):
    x, _ = make_spaces(seed, d1=8)
    for y in (x, x @ rotation(8, seed), 3 * x + 7):
        assert 1 - 1e-12 < svcca(*centred(x, y), variance=1) <= 1
        assert 1 - 1e-12 < pwcca(*centred(x, y)) <= 1


def test_rounding_of_narrow_features_is_no_direction():
    x, y = make_spaces(num_rows=400)
    wide = torch.cat([x, x @ rotation(6, 1)], dim=1) @ rotation(12, 2)
    expected = svcca(*centred(x, y), variance=1)
    assert svcca(*centred(wide.float(), y), variance=1) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("d1", "d2"), [(6, 4), (4, 6), (9, 1), (30, 25), (3, 40)])
def test_pwcca_takes_more_images_than_the_directions_of_both_spaces(d1, d2):
    for num_rows in {d1 + d2, d1 + d2 + 1, 8}:
        x, y = random_matrix(num_rows, d1, 0), random_matrix(num_rows, d2, 1)
        kept = [min(d, num_rows - 1) for d in (d1, d2)]
        if sum(kept) < num_rows - 1:
            continue
        message = rf"^PWCCA needs more images than .*: its spaces have {kept[0]} and {kept[1]} "
        with pytest.raises(ValueError, match=message):
            pwcca(*centred(x, y))
    x, y = random_matrix(d1 + d2 + 2, d1, 0), random_matrix(d1 + d2 + 2, d2, 1)
    assert pwcca(*centred(x, y)) == pytest.approx(naive_pwcca(x, y), abs=1e-9)
    turned = centred(x, y @ rotation(d2, 3))
    assert pwcca(*turned) == pytest.approx(pwcca(*centred(x, y)), abs=1e-9)


def test_pwcca_counts_directions_and_not_features():
    x, y = make_spaces(num_rows=60, d1=6, d2=4)
    wide_x, wide_y = x @ random_matrix(6, 500, 1), y @ random_matrix(4, 300, 2)
    expected = naive_pwcca_of_rank(wide_x, wide_y, (6, 4))
    assert pwcca(*centred(wide_x, wide_y)) == pytest.approx(expected, abs=1e-9)
    # A space of more directions takes no more of them than have a partner.
    assert pwcca(*centred(x, y[:, :1])) == pytest.approx(naive_pwcca(x, y[:, :1]), abs=1e-10)


def naive_pwcca_of_rank(x, y, ranks):
    x, y = (np.asarray(space - space.mean(dim=0)) for space in (x, y))
    bases = [np.linalg.svd(z)[0][:, :rank] for z, rank in zip((x, y), ranks, strict=True)]
    left, correlations, _ = np.linalg.svd(bases[0].T @ bases[1])
    weights = [np.abs(variate @ x).sum() for variate in (bases[0] @ left).T][: len(correlations)]
    return np.dot(weights, correlations) / sum(weights)


def test_pwcca_is_refused_where_equal_correlations_leave_the_weights_open():
    x, _ = make_spaces()
    y = torch.cat([x[:, :3], random_matrix(len(x), 2, 4)], dim=1)
    with pytest.raises(ValueError, match=r"^PWCCA has no weights where canonical correlations are"):
        pwcca(*centred(x, y))
    assert pwcca(*centred(x, x[:, :3])) == pytest.approx(1, abs=1e-12)


def test_svcca_says_how_many_correlations_nothing_but_the_number_of_images_made():
    x, y = random_matrix(12, 7, 0), random_matrix(12, 6, 1)
    found = svcca_estimate(*centred(x, y), variance=1)
    assert found.note == "2 of 6 correlations are 1 for any data: 12 images are too few"
    assert svcca_estimate(*centred(*make_spaces())).note is None


@METRICS
@pytest.mark.parametrize("scale", [1e160, 1e-160, 1e300, 1e-290])
def test_size_of_the_features_does_not_matter(metric, scale):
    x, y = make_spaces()
    expected = metric(*centred(x, y))
    assert metric(*centred(x * scale, y)) == pytest.approx(expected, abs=1e-12)
    assert metric(*centred(x, y * scale)) == pytest.approx(expected, abs=1e-12)


@METRICS
def test_narrow_features_far_from_the_origin_agree_with_float64(metric):
    x, y = (space.half() + 100 for space in make_spaces(num_rows=400))
    assert metric(*centred(x, y)) == pytest.approx(metric(*centred(x.double() - 100, y)), abs=1e-8)


@METRICS
def test_constant_space_is_named(metric):
    x, y = make_spaces()
    with pytest.raises(ValueError, match=r"^x: every row is the same$"):
        metric(*centred(torch.ones_like(x), y))
    with pytest.raises(ValueError, match=r"^y: every row is the same$"):
        metric(*centred(x, torch.ones_like(y)))
