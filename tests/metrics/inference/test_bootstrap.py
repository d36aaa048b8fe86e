import itertools
import math

import pytest
import torch

from alignctl.errors import ConfigError
from alignctl.metrics import compare, linear_cka, rsa
from alignctl.metrics.cka import rbf_cka
from alignctl.metrics.inference import bootstrap
from alignctl.metrics.inference.bootstrap import bootstrap_interval
from alignctl.metrics.sums import gram

SCORES = {
    "cka hsic=debiased": lambda x, y: linear_cka(x, y, debiased=True),
    "cka kernel=rbf hsic=debiased": lambda x, y: rbf_cka(x, y, debiased=True),
    "rsa": rsa,
    "rsa distance=correlation": lambda x, y: rsa(x, y, distance="correlation"),
    "rsa distance=sqeuclidean": lambda x, y: rsa(x, y, distance="sqeuclidean"),
}
WEIGHTS = [
    [1, 1, 1, 1, 1, 1],
    [2, 0, 1, 1, 2, 0],
    [3, 1, 0, 1, 0, 1],
    [0, 2, 2, 1, 1, 0],
    [1, 0, 2, 0, 1, 2],
]


def make_spaces(num_rows=30, d1=5, d2=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def naive_hsic(A, B, weights):
    """Mean over tuples of draws of different images: Song et al. 2012, eq. 4."""
    n = len(weights)
    second = {2: (0, 1), 3: (0, 2), 4: (2, 3)}
    means = {}
    for size, (p, q) in second.items():
        total = count = 0.0
        for images in itertools.permutations(range(n), size):
            weight = math.prod(weights[i] for i in images)
            total += weight * float(A[images[0], images[1]] * B[images[p], images[q]])
            count += weight
        means[size] = total / count
    return means[2] - 2 * means[3] + means[4]


def naive_covariance(A, B, weights):
    pairs = [(i, j, weights[i] * weights[j]) for i, j in itertools.permutations(range(len(A)), 2)]
    count = sum(w for _, _, w in pairs)
    a, b, ab = (
        sum(w * float(value(i, j)) for i, j, w in pairs) / count
        for value in (
            lambda i, j: A[i, j],
            lambda i, j: B[i, j],
            lambda i, j: A[i, j] * B[i, j],
        )
    )
    return ab - a * b


def matrices(kernels):
    return [kernel.block(slice(None)) for kernel in kernels]


@pytest.mark.parametrize("entries", [7, 2**23])
def test_weighted_hsic_is_the_mean_over_draws_of_different_images(entries, monkeypatch):
    monkeypatch.setattr(gram, "_BLOCK_ENTRIES", entries)
    x, y = (gram.linear_kernel(space) for space in make_spaces(6))
    weights = torch.tensor(WEIGHTS, dtype=torch.float64).T
    for pair in ((x, y), (x, x), (y, y)):
        expected = [naive_hsic(*matrices(pair), row) for row in WEIGHTS]
        assert bootstrap._hsic(*pair, weights).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("entries", [7, 2**23])
def test_weighted_covariance_is_over_draws_of_different_images(entries, monkeypatch):
    monkeypatch.setattr(gram, "_BLOCK_ENTRIES", entries)
    spaces = [gram.linear_kernel(space) for space in make_spaces(6)]
    squared = [
        kernel.diagonal[:, None] + kernel.diagonal - 2 * kernel.block(slice(None))
        for kernel in spaces
    ]
    weights = torch.tensor(WEIGHTS, dtype=torch.float64).T
    for i, j in ((0, 1), (0, 0), (1, 1)):
        expected = [naive_covariance(squared[i], squared[j], row) for row in WEIGHTS]
        found = bootstrap._distance_covariance(spaces[i], spaces[j], weights)
        assert found.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", SCORES)
def test_weights_of_one_give_the_score_itself(metric, monkeypatch):
    x, y = make_spaces()
    monkeypatch.setattr(
        bootstrap, "_weights", lambda n, size, **_: torch.ones(n, size, dtype=torch.float64)
    )
    low, high = bootstrap_interval(x, y, metric, resamples=300)
    assert (low, high) == pytest.approx([SCORES[metric](x, y)] * 2, abs=1e-12)


def test_weights_are_how_often_each_image_is_drawn():
    weights = bootstrap._weights(50, 200, seed=0, block=0)
    assert weights.shape == (50, 200)
    assert torch.equal(weights, weights.round())
    assert bool((weights.sum(dim=0) == 50).all())
    # The share of images that are never drawn: (1 - 1/50)^50.
    assert float((weights == 0).double().mean()) == pytest.approx(0.98**50, abs=0.01)


def test_every_resample_is_drawn_anew():
    blocks = [bootstrap._weights(20, 100, seed=0, block=block) for block in (0, 256)]
    columns = {tuple(column) for weights in blocks for column in weights.T.tolist()}
    assert len(columns) == 200


@pytest.mark.parametrize("metric", [*SCORES, "cka kernel=cosine hsic=debiased"])
def test_interval_is_close_to_that_of_the_infinitesimal_jackknife(metric):
    x, y = make_spaces(500, 10, 8)
    low, high = bootstrap_interval(x, y, metric, resamples=512)
    (score,) = compare(x, y, [metric])
    width = score.ci_high - score.ci_low
    assert high - low == pytest.approx(width, rel=0.15)
    assert (low, high) == pytest.approx((score.ci_low, score.ci_high), abs=0.15 * width)


def test_interval_widens_with_confidence_and_narrows_with_images():
    x, y = make_spaces(400)
    narrow, usual, wide = (
        bootstrap_interval(x, y, confidence=confidence, resamples=300)
        for confidence in (0.5, 0.95, 0.99)
    )
    assert wide[0] < usual[0] < narrow[0] < narrow[1] < usual[1] < wide[1]
    few = bootstrap_interval(x[:100], y[:100], resamples=300)
    assert few[1] - few[0] > 1.5 * (usual[1] - usual[0])


def test_interval_is_a_function_of_the_seed():
    x, y = make_spaces()
    first, again, other = (bootstrap_interval(x, y, resamples=50, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "metric",
    [
        "cka",
        "cka kernel=rbf",
        "cka hsic=debiased batch_size=8",
        "rsa correlation=spearman",
        "rsa distance=euclidean",
        "procrustes",
        "knn",
    ],
)
def test_other_metrics_have_no_bootstrap(metric):
    with pytest.raises(ValueError, match=f"'{metric}' has no bootstrap: choose"):
        bootstrap_interval(*make_spaces(), metric)


def test_unknown_metric_is_refused():
    with pytest.raises(ConfigError, match="'cak'"):
        bootstrap_interval(*make_spaces(), "cak")


def test_row_that_is_not_finite_is_named():
    x, y = make_spaces()
    y[3, 1] = math.nan
    with pytest.raises(ValueError, match="y, row 3, column 1: not finite"):
        bootstrap_interval(x, y)


@pytest.mark.parametrize("metric", ["cka hsic=debiased", "rsa", "rsa distance=sqeuclidean"])
def test_space_without_a_score_is_refused(metric):
    x, _ = make_spaces()
    with pytest.raises(ValueError, match=r"y: .*"):
        bootstrap_interval(x, torch.ones(30, 3, dtype=torch.float64), metric, resamples=50)


@pytest.mark.parametrize("metric", ["cka hsic=debiased", "rsa"])
@pytest.mark.parametrize("few", [1, 8, 19])
def test_too_few_rows_are_refused(metric, few):
    with pytest.raises(ValueError, match=f"at least 20 rows, not {few}"):
        bootstrap_interval(*make_spaces(few), metric, resamples=50)


def test_resamples_without_a_score_are_refused():
    x, y = make_spaces(30)
    x[3:] = x[3]  # most resamples have three different rows, or fewer
    with pytest.raises(ValueError, match="some resamples have no score"):
        bootstrap_interval(x, y, resamples=200)


def test_interval_of_few_images_is_never_nan():
    low, high = bootstrap_interval(*make_spaces(20), resamples=1000)
    assert low < high
