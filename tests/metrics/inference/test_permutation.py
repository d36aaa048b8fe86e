import pytest
import torch

from alignctl.config.metric_configs import parse_metrics
from alignctl.metrics import compare, linear_cka, rsa
from alignctl.metrics.feature_space import InMemory
from alignctl.metrics.inference import permutation
from alignctl.metrics.inference.permutation import count_as_high, permutations
from alignctl.metrics.scoring import Question, scores

METRICS = ["cka", "cka hsic=debiased", "cka kernel=cosine", "rsa", "rsa distance=correlation"]
KIND_AND_SCORE = {
    ("raw", "biased"): linear_cka,
    ("raw", "debiased"): lambda x, y: linear_cka(x, y, debiased=True),
    ("raw", "distances"): lambda x, y: rsa(x, y, distance="sqeuclidean"),
    ("unit", "distances"): rsa,
    ("correlation", "distances"): lambda x, y: rsa(x, y, distance="correlation"),
}


def make_spaces(num_rows=40, d1=5, d2=4, seed=0, related=False):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(num_rows, d, generator=generator, dtype=torch.float64) for d in (d1, d2))
    if related:
        y = y + x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x, y


@pytest.mark.parametrize("dims", [(5, 4), (60, 50)])
@pytest.mark.parametrize(("kind", "statistic"), KIND_AND_SCORE)
def test_each_shuffle_counts_as_the_score_of_shuffled_rows_does(dims, kind, statistic):
    x, y = make_spaces(40, *dims, seed=1)
    score = KIND_AND_SCORE[kind, statistic]
    observed = score(x, y)
    counts = []
    for number in range(25):
        (order,) = permutations(40, [number], seed=3)
        (count,) = count_as_high(x, y, kind, [statistic], orders=iter([order]))
        assert count == (score(x, y[order]) >= observed)
        counts.append(count)
    assert 0 < sum(counts) < 25


@pytest.mark.parametrize("dims", [(5, 4), (60, 50)])
@pytest.mark.parametrize("kind", ["raw", "unit", "correlation"])
@pytest.mark.parametrize("statistic", ["biased", "debiased", "distances"])
def test_products_and_gram_matrices_give_the_same_sums(dims, kind, statistic):
    x, y = make_spaces(30, *dims)
    forms = [permutation._product_sums(x, y, kind), permutation._gram_sums(x, y, kind)]
    for order in permutations(30, range(5), seed=1):
        one, other = (form(order) for form in forms)
        values = []
        for form, sums in zip(forms, (one, other), strict=True):
            plain = form(torch.arange(30)).value(statistic)
            values.append(sums.value(statistic) / abs(plain))
        assert values[0] == pytest.approx(values[1], rel=1e-9, abs=1e-9)


def test_float32_features_count_as_their_float64_values_do():
    x, y = (space.float() for space in make_spaces(1500))
    for statistic in ("biased", "debiased", "distances"):
        counts = [
            count_as_high(*pair, "raw", [statistic], orders=permutations(1500, range(50), seed=0))
            for pair in ((x, y), (x.double(), y.double()))
        ]
        assert counts[0] == counts[1]
        assert 0 < counts[0][0] < 50


def test_shuffles_are_permutations_and_differ():
    orders = list(permutations(20, range(10), seed=0))
    for order in orders:
        assert sorted(order.tolist()) == list(range(20))
    assert len({tuple(order.tolist()) for order in orders}) == 10


def test_a_shuffle_is_a_function_of_the_seed_and_its_number():
    (alone,) = permutations(20, [7], seed=5)
    assert torch.equal(alone, list(permutations(20, range(10), seed=5))[7])
    (other,) = permutations(20, [7], seed=6)
    assert not torch.equal(alone, other)


def test_shuffles_are_uniform():
    firsts = [int(order[0]) for order in permutations(4, range(2000), seed=0)]
    # sd of each count: sqrt(2000 * 3 / 16) = 19
    assert all(abs(firsts.count(i) - 500) < 80 for i in range(4))


def test_p_value_of_related_spaces_is_the_smallest_there_is():
    for score in compare(*make_spaces(related=True), METRICS, permutations=99):
        assert score.p_value == 1 / 100


def test_p_value_without_shuffles_is_none():
    assert all(score.p_value is None for score in compare(*make_spaces(), METRICS))


def test_p_value_is_of_cka_and_rsa_alone():
    metrics = ["rsa", "procrustes", "rsa_lower_bound"]
    found = [s.p_value is None for s in compare(*make_spaces(), metrics, permutations=9)]
    assert found == [False, True, True]


@pytest.mark.parametrize("dims", [(4, 3), (30, 40)])
@pytest.mark.parametrize(
    ("repeats", "shuffles"), [(60, 9), pytest.param(150, 19, marks=pytest.mark.soak)]
)
def test_p_values_of_unrelated_spaces_are_uniform(dims, repeats, shuffles):
    metrics = ["cka", "cka hsic=debiased", "rsa distance=correlation"]
    found = []
    for seed in range(repeats):
        x, y = make_spaces(24, *dims, seed=seed)
        results = compare(x, y, metrics, confidence=None, permutations=shuffles, seed=seed)
        found.append([score.p_value for score in results])
    for p_values in zip(*found, strict=True):
        ranks = {round((shuffles + 1) * p) for p in p_values}
        assert ranks == set(range(1, shuffles + 2))
        for level in (0.1, 0.2, 0.5, 0.7, 0.9):
            share = sum(p <= level + 1e-9 for p in p_values) / repeats
            assert abs(share - level) < 3 * (level * (1 - level) / repeats) ** 0.5


@pytest.mark.parametrize("statistic", ["biased", "debiased", "distances"])
def test_equal_scores_count_as_high(statistic):
    x, y = make_spaces()
    x = x[torch.arange(40) % 2]
    # Swaps images that are alike in x: no sum changes but for the order of its terms.
    orders = [torch.arange(40).roll(2 * shift) for shift in range(1, 20)]
    assert count_as_high(x, y, "raw", [statistic], orders=iter(orders)) == [19]


@pytest.mark.parametrize("dims", [(5, 4), (60, 50)])
@pytest.mark.parametrize("num_processes", [2, 3, 30])
def test_counts_of_processes_add_up_to_those_of_one(num_processes, dims):
    x, y = make_spaces(20, *dims)
    question = Question(parse_metrics(METRICS), confidence=None, permutations=25, seed=4)
    orders = permutations(20, range(25), seed=4)
    raw = count_as_high(x, y, "raw", ["biased", "debiased"], orders=orders)
    (alone,) = scores([InMemory(x), InMemory(y)], [(0, 1)], question, names="xy").values()
    p_values = [score.p_value for score in alone]
    assert p_values[:2] == [(1 + count) / 26 for count in raw]
    shares = [list(range(25))[rank::num_processes] for rank in range(num_processes)]
    counts = [
        count_as_high(x, y, "raw", ["biased", "debiased"], orders=permutations(20, share, seed=4))
        for share in shares
    ]
    assert [sum(column) for column in zip(*counts, strict=True)] == raw
