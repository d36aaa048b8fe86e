import itertools
from dataclasses import dataclass
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import rotation

from alignctl.config.metric_configs import METRIC_NAMES
from alignctl.metrics import Moments, compare, linear_cka, rsa
from alignctl.metrics.sums.rows import Kind

KINDS = get_args(Kind)

SCORES = {
    "biased CKA": linear_cka,
    "debiased CKA": lambda x, y: linear_cka(x, y, debiased=True),
    "cosine": rsa,
    "sqeuclidean": lambda x, y: rsa(x, y, "sqeuclidean"),
    "correlation": lambda x, y: rsa(x, y, "correlation"),
}
MOMENTS = {
    "biased CKA": lambda moments: moments.linear_cka(0, 1),
    "debiased CKA": lambda moments: moments.linear_cka(0, 1, debiased=True),
    "cosine": lambda moments: moments.rsa(0, 1),
    "sqeuclidean": lambda moments: moments.rsa(0, 1, distance="sqeuclidean"),
    "correlation": lambda moments: moments.rsa(0, 1, distance="correlation"),
}


@dataclass(frozen=True)
class Spaces:
    """Two spaces of the same images, and changes of them that some metrics do not see."""

    x: torch.Tensor
    y: torch.Tensor

    def each(self, change):
        return Spaces(change(self.x), change(self.y))

    def rows(self, seed):
        """A positive number for each image."""
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(len(self.x), 1, generator=generator, dtype=torch.float64) + 0.1


CHANGES = {
    "rotation": lambda spaces: spaces.each(lambda x: x @ rotation(x.shape[1], 1)),
    "rotation of the second": lambda spaces: Spaces(
        spaces.x, spaces.y @ rotation(spaces.y.shape[1], 1)
    ),
    "scale": lambda spaces: Spaces(1e3 * spaces.x, 1e-3 * spaces.y),
    "translation": lambda spaces: spaces.each(lambda x: x + 3 * torch.arange(x.shape[1])),
    "lengths of rows": lambda spaces: spaces.each(lambda x: x * spaces.rows(2)),
    "means of rows": lambda spaces: spaces.each(lambda x: x + 3 * spaces.rows(3)),
    "order": lambda spaces: spaces.each(lambda x: x[torch.randperm(len(x), generator=seeded(4))]),
    "swap": lambda spaces: Spaces(spaces.y, spaces.x),
}
TURNED = {"rotation", "rotation of the second", "scale", "order", "swap"}
RAW, UNIT = TURNED | {"translation"}, TURNED | {"lengths of rows"}
# What changes no score; whatever else is in CHANGES does change it
INVARIANCES = {
    "cka": RAW,
    "cka hsic=debiased": RAW,
    "cka kernel=cosine": UNIT,
    "cka kernel=rbf": RAW,
    "rsa": UNIT,
    "rsa correlation=spearman": UNIT,
    "rsa correlation=kendall": UNIT,
    "rsa distance=correlation": {"scale", "order", "swap", "lengths of rows", "means of rows"},
    "rsa distance=sqeuclidean": RAW,
    "rsa distance=euclidean": RAW,
    "rsa distance=euclidean correlation=spearman": RAW,
    "rsa distance=euclidean correlation=kendall": RAW,
    "cka_lower_bound": UNIT - {"swap"},
    "rsa_lower_bound": UNIT - {"swap"},
    "procrustes": RAW,
    "knn k=5": UNIT,
    "knn k=5 distance=euclidean": RAW,
    "svcca": RAW,
    "pwcca": RAW - {"rotation", "swap"},
}
EVERY_SCORE = pytest.mark.parametrize("name", SCORES)
SEEDS = st.integers(0, 10_000)
# Narrow spaces take products of features, wide ones Gram matrices.
SHAPES = st.tuples(st.integers(5, 40), st.sampled_from([(5, 4), (60, 50), (3, 80)]))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def make_spaces(seed, shape):
    num_rows, dims = shape
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(num_rows, 3, generator=generator, dtype=torch.float64)
    return [
        shared @ torch.randn(3, d, generator=generator, dtype=torch.float64)
        + torch.randn(num_rows, d, generator=generator, dtype=torch.float64)
        for d in dims
    ]


@EVERY_SCORE
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, shape=SHAPES)
def test_scores_lie_in_their_ranges(name, seed, shape):
    score = SCORES[name](*make_spaces(seed, shape))
    assert (0 if name == "biased CKA" else -1) - 1e-12 <= score <= 1 + 1e-12


@EVERY_SCORE
@settings(deadline=None, max_examples=25)
@given(
    seed=SEEDS,
    cuts=st.lists(st.integers(0, 40), max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_chunks_merge_in_any_order_to_the_same_score(name, seed, cuts, order):
    spaces = make_spaces(seed, (40, (5, 4)))
    origins = Moments.origins_of([space[:5] for space in spaces], KINDS)
    bounds = [0, *sorted(cuts), 40]
    parts = [
        Moments.measure([space[a:b] for space in spaces], [(0, 1)], origins)
        for a, b in itertools.pairwise(bounds)
    ]
    while len(parts) > 1:  # as a tree of any shape
        order.shuffle(parts)
        parts.append(parts.pop() + parts.pop())
    assert parts[0].count == 40
    assert MOMENTS[name](parts[0]) == pytest.approx(SCORES[name](*spaces), abs=1e-9)


# Narrow spaces take products of features, wide ones Gram matrices.
@pytest.mark.parametrize("shape", [(40, (6, 4)), (30, (60, 50))], ids=["narrow", "wide"])
@pytest.mark.parametrize("metric", INVARIANCES)
def test_a_metric_sees_all_changes_but_those_it_is_invariant_to(metric, shape):
    if metric.endswith("cca") and shape[1][0] > shape[0]:
        pytest.skip("every direction is shared")
    spaces = Spaces(*make_spaces(0, shape))
    (expected,) = compare(spaces.x, spaces.y, [metric])
    for name, change in CHANGES.items():
        changed = change(spaces)
        (found,) = compare(changed.x, changed.y, [metric])
        if name in INVARIANCES[metric]:
            rounding = 1e-8 if name == "translation" or metric.endswith("cca") else 1e-9
            assert found.value == pytest.approx(expected.value, abs=rounding), name
            assert (found.ci_low is None) == (expected.ci_low is None)
            if found.ci_low is not None:
                assert found.ci_low == pytest.approx(expected.ci_low, abs=1e-6), name
        else:
            assert abs(found.value - expected.value) > 1e-5, name


@pytest.mark.parametrize("metric", [
    "cka", "cka hsic=debiased", "cka kernel=cosine", "cka kernel=rbf", "rsa",
    "rsa distance=sqeuclidean", "rsa distance=euclidean", "rsa correlation=spearman",
    "rsa correlation=kendall", "svcca",
])  # fmt: skip
@pytest.mark.parametrize("shape", [(30, 5), (60, 100), (1500, 20)])
def test_a_space_and_itself_score_1_and_never_a_rounding_more(metric, shape):
    for seed in range(10 if shape[0] < 1000 else 3):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert 1 - 1e-15 < compare(x, x.clone(), metric, confidence=None)[0].value <= 1


def test_every_metric_states_its_invariances():
    assert {metric.split()[0] for metric in INVARIANCES} == set(METRIC_NAMES)


def test_debiased_cka_of_unrelated_spaces_is_zero_on_average_and_biased_cka_is_not():
    biased, debiased = [], []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(50, 200, generator=generator, dtype=torch.float64) for _ in range(2))
        biased.append(linear_cka(x, y))
        debiased.append(linear_cka(x, y, debiased=True))
    values = torch.tensor(debiased)
    assert abs(float(values.mean())) < 3 * float(values.std()) / 200**0.5 < 0.01
    assert min(biased) > 0.7


@pytest.mark.parametrize("name", ["cosine", "sqeuclidean", "correlation"])
def test_rsa_of_unrelated_spaces_is_zero_on_average(name):
    values = []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(50, 20, generator=generator, dtype=torch.float64) for _ in range(2))
        values.append(SCORES[name](x, y))
    values = torch.tensor(values)
    assert abs(float(values.mean())) < 3 * float(values.std()) / 200**0.5 < 0.02
