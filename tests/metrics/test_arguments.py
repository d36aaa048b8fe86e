"""Arguments that cannot be meant are a ValueError that names them, in every public function."""

import numpy as np
import pytest
import torch

from alignctl.errors import ConfigError
from alignctl.metrics import Moments, compare, linear_cka, rsa
from alignctl.metrics.cka import rbf_cka
from alignctl.metrics.inference.bootstrap import bootstrap_interval
from alignctl.metrics.neighbours import knn_overlap

X, Y = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(0))
ORIGINS = Moments.origins_of([X, Y])
MOMENTS = Moments.measure([X, Y], [(0, 1)], ORIGINS)
NOT_WHOLE = [2.5, 3.0, "3", None, True]


@pytest.mark.parametrize("value", [-3, *NOT_WHOLE])
def test_permutations(value):
    with pytest.raises(ValueError, match=r"^permutations must be "):
        compare(X, Y, ["rsa"], permutations=value)


@pytest.mark.parametrize("value", [95, 0, 1, -0.5, float("nan"), "95", True])
def test_confidence(value):
    with pytest.raises(ValueError, match=r"^confidence must lie between 0 and 1, not "):
        compare(X, Y, ["rsa"], confidence=value)
    with pytest.raises(ValueError, match=r"^confidence must lie between 0 and 1, not "):
        bootstrap_interval(X, Y, confidence=value)


def test_numbers_of_numpy_are_numbers():
    options = {"confidence": np.float32(0.9), "permutations": np.int64(2), "seed": np.int32(1)}
    (score,) = compare(X, Y, "rsa", **options)
    assert score.ci_low < score.value < score.ci_high
    assert linear_cka(X, Y, debiased=np.True_) == linear_cka(X, Y, debiased=True)


def test_one_metric_is_taken_like_a_list_of_one():
    assert compare(X, Y, "cka hsic=debiased") == compare(X, Y, ["cka hsic=debiased"])
    assert compare(X, Y, (name for name in ("cka", "rsa"))) == compare(X, Y, ["cka", "rsa"])
    with pytest.raises(ConfigError, match="metric 'ckaa'"):
        compare(X, Y, "ckaa")


@pytest.mark.parametrize("value", [3, [3], ["cka", None], [b"cka"]])
def test_metrics(value):
    with pytest.raises(ValueError, match=r"^metrics must be a text or several, not "):
        compare(X, Y, value)


@pytest.mark.parametrize("value", NOT_WHOLE)
@pytest.mark.parametrize(
    "call",
    [
        lambda seed: compare(X, Y, ["rsa"], seed=seed),
        lambda seed: bootstrap_interval(X, Y, seed=seed),
        lambda seed: rsa(X, Y, seed=seed),
    ],
)
def test_seed(call, value):
    with pytest.raises(ValueError, match=r"^seed must be a whole number, not "):
        call(value)


@pytest.mark.parametrize("value", [0, -1, *NOT_WHOLE])
def test_resamples_pairs_and_k(value):
    for name, call in (
        ("resamples", lambda: bootstrap_interval(X, Y, resamples=value)),
        ("pairs", lambda: rsa(X, Y, correlation="spearman", pairs=value)),
        ("k", lambda: knn_overlap(X, Y, k=value, distance="cosine")),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be "):
            call()


@pytest.mark.parametrize("value", ["debiased", "no", None, 2, 0.0])
def test_debiased(value):
    for call in (linear_cka, lambda x, y, value: rbf_cka(x, y, debiased=value)):
        with pytest.raises(ValueError, match=r"^debiased must be True or False, not "):
            call(X, Y, value)
    with pytest.raises(ValueError, match=r"^debiased must be True or False, not "):
        MOMENTS.linear_cka(0, 1, debiased=value)


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), "1", True])
def test_bandwidth(value):
    with pytest.raises(ValueError, match=r"^bandwidth must be a number above 0, not "):
        rbf_cka(X, Y, bandwidth=value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rsa(X, Y, distance="cos"), "distance: 'cos' is not known; allowed: cosine, "),
        (lambda: rsa(X, Y, distance=["cosine"]), r"distance: \['cosine'\] is not known"),
        (lambda: rsa(X, Y, correlation=None), "correlation: None is not known"),
        (lambda: knn_overlap(X, Y, k=3, distance="cos"), "distance: 'cos' is not known"),
        (lambda: bootstrap_interval(X, Y, ["cka"]), "metric must be a text, not "),
        (lambda: MOMENTS.linear_cka(0, 1, kernel="rbf"), "kernel: 'rbf' is not known; allowed: "),
        (lambda: MOMENTS.rsa(0, 1, distance="euclidean"), "distance: 'euclidean' is not known"),
        (lambda: Moments.origins_of([X], ["raw", "row"]), "kinds: 'row' is not known; allowed: "),
        (lambda: Moments.measure([X, Y], [(0, 2)], ORIGINS), r"pairs: \(0, 2\) is no pair of 2 "),
        (lambda: Moments.measure([X, Y], [(0, -1)], ORIGINS), r"pairs: \(0, -1\) is no pair of 2"),
        (lambda: MOMENTS.bounds(0, 5), r"pairs: \(0, 5\) is no pair of 2 models, 0 to 1"),
        (
            lambda: Moments.measure([X.numpy(), Y], [(0, 1)], ORIGINS),
            r"features\[0\]: want a tensor, not ndarray",
        ),
    ],
)
def test_what_is_not_among_those_allowed_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
