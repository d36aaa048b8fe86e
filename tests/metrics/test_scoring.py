import math

import pytest
import torch

from alignctl.config.metric_configs import USUAL_METRICS, parse_metric, parse_metrics
from alignctl.errors import ConfigError
from alignctl.metrics import Moments, compare, feature_space, linear_cka, minibatch_cka, rsa
from alignctl.metrics.cca import pwcca, svcca
from alignctl.metrics.cka import rbf_cka
from alignctl.metrics.feature_space import InMemory, sample
from alignctl.metrics.inference.closed_form import from_kernels, linear_kernels
from alignctl.metrics.neighbours import knn_overlap
from alignctl.metrics.pairs import balanced_groups
from alignctl.metrics.procrustes import procrustes
from alignctl.metrics.reduction import reduced
from alignctl.metrics.scoring import Question, scores

NAMES = ["cl", "nscl", "scl", "ce"]


def make_spaces(num_rows=40, dims=(8, 6), seed=0):
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(num_rows, 4, generator=generator, dtype=torch.float64)
    return [
        shared @ torch.randn(4, d, generator=generator, dtype=torch.float64)
        + torch.randn(num_rows, d, generator=generator, dtype=torch.float64)
        for d in dims
    ]


def centred(x, y):
    return reduced(InMemory(x), InMemory(y))


def bounds(x, y):
    return Moments.measure([x, y], [(0, 1)], Moments.origins_of([x, y])).bounds(0, 1)


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


FUNCTIONS = {
    "cka": linear_cka,
    "cka hsic=debiased": lambda x, y: linear_cka(x, y, debiased=True),
    "cka kernel=cosine": lambda x, y: linear_cka(unit(x), unit(y)),
    "cka kernel=cosine hsic=debiased": lambda x, y: linear_cka(unit(x), unit(y), debiased=True),
    "cka kernel=rbf": rbf_cka,
    "cka kernel=rbf hsic=debiased bandwidth=0.5": lambda x, y: rbf_cka(
        x, y, bandwidth=0.5, debiased=True
    ),
    "cka hsic=debiased batch_size=8": lambda x, y: minibatch_cka(x, y, 8),
    "rsa": rsa,
    "rsa distance=correlation": lambda x, y: rsa(x, y, "correlation"),
    "rsa distance=sqeuclidean": lambda x, y: rsa(x, y, "sqeuclidean"),
    "rsa distance=euclidean": lambda x, y: rsa(x, y, "euclidean"),
    "rsa correlation=spearman": lambda x, y: rsa(x, y, correlation="spearman"),
    "rsa distance=sqeuclidean correlation=kendall": lambda x, y: rsa(
        x, y, "sqeuclidean", "kendall"
    ),
    "rsa distance=euclidean pairs=100 seed=3": lambda x, y: rsa(
        x, y, "euclidean", pairs=100, seed=3
    ),
    "cka_lower_bound": lambda x, y: bounds(x, y).cka_at_least,
    "rsa_lower_bound": lambda x, y: bounds(x, y).rsa_at_least,
    "knn": lambda x, y: knn_overlap(x, y, k=10, distance="cosine"),
    "knn k=3 distance=euclidean": lambda x, y: knn_overlap(x, y, k=3, distance="euclidean"),
    "procrustes": lambda x, y: procrustes(*centred(x, y)),
    "svcca": lambda x, y: svcca(*centred(x, y)),
    "svcca variance=0.5": lambda x, y: svcca(*centred(x, y), variance=0.5),
    "pwcca": lambda x, y: pwcca(*centred(x, y)),
}


@pytest.mark.parametrize("dims", [(8, 6), (60, 50)])
def test_every_metric_is_its_function(dims):
    x, y = make_spaces(40, dims)
    functions = {m: f for m, f in FUNCTIONS.items() if m != "pwcca" or sum(dims) < 39}
    found = compare(x, y, list(functions))
    for score, (metric, function) in zip(found, functions.items(), strict=True):
        assert score.metric == parse_metric(metric).identifier
        # 4 groups of 9 images are all that 100 pairs can make of 40.
        assert score.num_images == (36 if "pairs=100" in score.metric else 40)
        assert score.value == pytest.approx(function(x, y), abs=1e-9), metric


def test_every_usual_metric_is_covered_and_has_a_name_of_its_own():
    wanted = {metric.identifier for metric in parse_metrics(USUAL_METRICS)}
    assert len(wanted) == len(USUAL_METRICS)
    found = {score.metric for score in compare(*make_spaces())}
    assert found == wanted


def test_identifiers_say_all_that_matters_and_are_read_back():
    metrics = ["cka", "rsa correlation=kendall", "knn images=20", "cka kernel=rbf", "svcca"]
    found = [score.metric for score in compare(*make_spaces(), metrics)]
    assert found == [
        "cka kernel=linear hsic=biased",
        "rsa distance=cosine correlation=kendall",
        "knn k=10 distance=cosine images=20",
        "cka kernel=rbf hsic=biased bandwidth=1",
        "svcca variance=0.99",
    ]
    again = [score.metric for score in compare(*make_spaces(), found)]
    assert again == found


def test_metric_asked_for_twice_is_measured_once():
    found = compare(*make_spaces(), ["cka", "rsa", "cka hsic=biased"])
    assert [score.metric.split()[0] for score in found] == ["cka", "rsa"]


@pytest.mark.parametrize(
    ("metric", "function"),
    [
        ("cka kernel=rbf images=50", rbf_cka),
        ("cka kernel=rbf images=50 seed=7", rbf_cka),
        ("knn images=50", lambda x, y: knn_overlap(x, y, k=10, distance="cosine")),
    ],
)
def test_too_many_images_are_sampled_by_the_seed(metric, function):
    x, y = make_spaces(120)
    (score,) = compare(x, y, [metric])
    config = parse_metric(metric)
    images = sample(120, 50, seed=config.seed)
    assert score.value == pytest.approx(function(x[images], y[images]), abs=1e-12)
    assert score.value != function(x, y)
    assert score.num_images == 50
    assert (score.num_sampled_images, score.sample_seed) == (50, config.seed)
    assert score.num_sampled_pairs is None
    (few,) = compare(x[:50], y[:50], [metric])
    assert few.metric == score.metric == config.identifier
    assert few.num_images == 50
    assert (few.num_sampled_images, few.num_sampled_pairs, few.sample_seed) == (None, None, None)


@pytest.mark.parametrize("pairs", [20, 60, 500, 779])
def test_how_many_pairs_were_drawn_is_said(pairs):
    x, y = make_spaces(40)
    (score,) = compare(x, y, f"rsa correlation=spearman pairs={pairs} seed=3")
    groups = balanced_groups(40, pairs, 3)
    assert score.num_sampled_pairs == len(groups) * groups.shape[1] * (groups.shape[1] - 1) // 2
    assert score.num_sampled_pairs <= pairs
    assert (score.num_images, score.sample_seed) == (groups.size, 3)
    assert score.num_sampled_images is None
    (whole,) = compare(x, y, "rsa correlation=spearman pairs=780")
    assert (whole.num_sampled_pairs, whole.sample_seed) == (None, None)


def test_what_was_drawn_is_said_where_there_is_no_value():
    x, y = make_spaces(40)
    y[:20] = 0
    metrics, options = parse_metrics(["knn images=30", "cka"]), {"each_by_itself": True}
    spaces = [InMemory(x), InMemory(y)]
    (knn, _) = scores(spaces, [(0, 1)], Question(metrics, **options), names=("x", "y"))[0, 1]
    assert knn.value is None
    assert knn.note == "y, row 0: all zeros, so it has no cosine"
    assert (knn.num_images, knn.num_sampled_images, knn.sample_seed) == (30, 30, 0)


def test_sample_is_of_different_images_in_order_and_each_is_as_likely():
    counts = torch.zeros(20)
    for seed in range(600):
        images = sample(20, 5, seed=seed)
        assert images.tolist() == sorted(set(images.tolist()))
        assert len(images) == 5
        counts[images] += 1
    # sd of each count: sqrt(600 / 4 * 3 / 4) = 10.6
    assert float((counts - 150).abs().max()) < 43


def test_sampled_images_are_found_in_whatever_chunks_they_are_read(monkeypatch):
    (x,) = make_spaces(120, (5,))
    images = sample(120, 50, seed=0)
    monkeypatch.setattr(feature_space, "CHUNK", 7)
    assert torch.equal(feature_space.whole(InMemory(x), images), x[images])
    assert torch.equal(feature_space.whole(InMemory(x)), x)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("cak", "'cak' is not a metric; did you mean 'cka'"),
        ("", "is not a metric"),
        ("cka kernel", "'kernel' is not an option: write key=value"),
        ("cka kernel=gaussian", "gaussian"),
        ("rsa kernel=linear", "kernel"),
    ],
)
def test_unknown_metric_or_option_is_a_config_error(metric, message):
    with pytest.raises(ConfigError, match=message):
        compare(*make_spaces(), ["cka", metric])


def test_intervals_hold_the_value_and_follow_the_confidence():
    metrics = ["cka", "cka hsic=debiased", "rsa", "cka kernel=rbf", "rsa correlation=spearman"]
    spaces = make_spaces()
    wide, narrow = (compare(*spaces, metrics, confidence=c) for c in (0.95, 0.5))
    for a, b in zip(wide, narrow, strict=True):
        assert a.ci_low < b.ci_low < a.value == b.value < b.ci_high < a.ci_high
    for score in compare(*spaces, metrics, confidence=None):
        assert score.ci_low is None
        assert score.ci_high is None


def test_metrics_without_a_standard_error_have_no_interval():
    metrics = ["procrustes", "svcca", "knn", "cka_lower_bound"]
    assert all(score.ci_low is None for score in compare(*make_spaces(), metrics))


@pytest.mark.parametrize("chunk", [7, 8192])
@pytest.mark.parametrize(
    ("metric", "kind", "statistic"),
    [
        ("cka", "raw", "biased"),
        ("cka hsic=debiased", "raw", "debiased"),
        ("cka kernel=cosine hsic=debiased", "unit", "debiased"),
        ("rsa", "unit", "distances"),
        ("rsa distance=correlation", "correlation", "distances"),
        ("rsa distance=sqeuclidean", "raw", "distances"),
    ],
)
def test_streamed_intervals_are_those_of_the_gram_form(metric, kind, statistic, chunk, monkeypatch):
    monkeypatch.setattr(feature_space, "CHUNK", chunk)
    x, y = make_spaces(40, (8, 6))
    (score,) = compare(x + 3, y, [metric])
    assert score.form == "features"
    expected = from_kernels(*linear_kernels(x + 3, y, kind), statistic)
    assert (score.ci_low, score.ci_high) == pytest.approx(expected.interval(0.95), abs=1e-9)


def test_interval_of_float32_features_is_that_of_their_float64_values():
    metrics = ["cka", "cka hsic=debiased", "rsa", "rsa distance=correlation"]
    x, y = (space.float() for space in make_spaces(3000, (30, 20)))
    exact = compare(x.double(), y.double(), metrics)
    for score, other in zip(compare(x, y, metrics), exact, strict=True):
        assert score.ci_high - score.ci_low == pytest.approx(other.ci_high - other.ci_low, rel=1e-4)


PAIRS = [(0, 1), (0, 2), (0, 3)]
SEVERAL = ["cka", "cka hsic=debiased", "rsa", "rsa distance=correlation", "rsa distance=euclidean",
           "cka_lower_bound", "rsa_lower_bound", "procrustes", "pwcca", "knn"]  # fmt: skip


def ask(spaces, metrics, pairs=PAIRS, **options):
    question = Question(parse_metrics(metrics), **options)
    return scores([InMemory(x) for x in spaces], pairs, question, names=NAMES[: len(spaces)])


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.metric, one.num_images) == (other.metric, other.num_images)
        for name in ("value", "ci_low", "ci_high", "p_value"):
            a, b = getattr(one, name), getattr(other, name)
            assert (a is None) == (b is None)
            assert a is None or a == pytest.approx(b, abs=1e-9)


@pytest.mark.parametrize("dims", [(8, 6, 5, 8), (60, 50, 50, 70), (60, 50, 5, 70)])
def test_several_models_at_once_have_the_scores_of_each_pair(dims):
    spaces = make_spaces(40, dims)
    metrics = [m for m in SEVERAL if m != "pwcca" or sum(dims[:2]) < 39]
    together = ask(spaces, metrics, permutations=19)
    assert list(together) == PAIRS
    for (i, j), found in together.items():
        assert_same(found, compare(spaces[i], spaces[j], metrics, permutations=19))


def none_of(found):
    """The metrics without a value, and why."""
    for score in found:
        if score.value is None:
            assert score.note
            assert (score.ci_low, score.ci_high, score.p_value) == (None, None, None)
    return {score.metric: score.note for score in found if score.value is None}


@pytest.mark.parametrize("dims", [(8, 6), (60, 50)])
def test_usual_metrics_that_a_zero_row_leaves_without_a_value_are_lines_with_the_reason(dims):
    x, y = make_spaces(40, dims)
    y[7] = 0
    found = compare(x, y, permutations=9)
    why = none_of(found)
    pwcca = why.pop("pwcca", "PWCCA needs")
    assert pwcca.startswith("PWCCA needs")
    assert why.pop("rsa distance=correlation correlation=pearson") == (
        "y, row 7: constant, so it has no correlation distance"
    )
    assert set(why) == {
        "cka kernel=cosine hsic=debiased",
        "rsa distance=cosine correlation=pearson",
        "rsa distance=cosine correlation=spearman",
        "rsa distance=cosine correlation=kendall",
        "cka_lower_bound",
        "rsa_lower_bound",
        "knn k=10 distance=cosine",
    }
    assert set(why.values()) == {"y, row 7: all zeros, so it has no cosine"}
    rest = [score for score in found if score.value is not None]
    assert_same(rest, compare(x, y, [score.metric for score in rest], permutations=9))


def test_usual_metrics_of_few_images_or_few_features_have_their_reasons():
    x, y = make_spaces(6, (2, 1))
    few = none_of(compare(x, y))
    assert few["knn k=10 distance=cosine"] == "k=10 needs more than 10 rows, not 6"
    assert none_of(compare(*make_spaces(3, (2, 2))))["cka kernel=linear hsic=debiased"] == (
        "debiased CKA needs at least 4 rows, not 3"
    )
    x[:5] = x[0]
    why = none_of(compare(x, y))
    assert why["cka kernel=rbf hsic=debiased bandwidth=1"].startswith("x: the median distance is 0")
    one = none_of(compare(*make_spaces(40, (1, 1))))
    assert one["rsa distance=correlation correlation=pearson"].startswith("x, row 0: constant")
    assert "cka kernel=linear hsic=biased" not in one


def test_metric_that_is_named_is_an_error_where_it_cannot_be_computed():
    x, y = make_spaces()
    y[7] = 0
    with pytest.raises(ValueError, match=r"^y, row 7: all zeros, so it has no cosine$"):
        compare(x, y, ["cka", "rsa"])


def test_usual_metrics_of_which_none_has_a_value_are_an_error():
    x, y = make_spaces()
    with pytest.raises(ValueError, match=r"^x: every row is the same"):
        compare(torch.ones_like(x), y)
    with pytest.raises(ValueError, match=r"needs at least 2 rows, not 1$"):
        compare(x[:1], y[:1])


@pytest.mark.parametrize("dims", [(8, 6, 5, 8), (60, 50, 50, 70)])
def test_row_that_is_not_finite_is_an_error_for_all_metrics(dims):
    spaces = make_spaces(40, dims)
    spaces[3][5, 1] = math.nan
    with pytest.raises(ValueError, match=r"^ce, row 5: not finite"):
        ask(spaces, ["cka", "rsa", "procrustes"], each_by_itself=True)


@pytest.mark.parametrize("dims", [(8, 6, 5, 8), (60, 50, 50, 70)])
def test_space_without_a_score_takes_no_other_pair_with_it(dims):
    spaces = make_spaces(40, dims)
    spaces[2][7] = 0
    found = ask(spaces, ["cka", "rsa", "cka_lower_bound"], each_by_itself=True, permutations=9)
    reason = "scl, row 7: all zeros, so it has no cosine"
    assert none_of(found[0, 2]) == {
        "rsa distance=cosine correlation=pearson": reason, "cka_lower_bound": reason,
    }  # fmt: skip
    for pair in ((0, 1), (0, 3)):
        x, y = (spaces[index] for index in pair)
        assert_same(found[pair], compare(x, y, ["cka", "rsa", "cka_lower_bound"], permutations=9))


def test_products_of_features_are_never_taken_of_a_space_wider_than_its_pairs_allow(monkeypatch):
    spaces = make_spaces(40, (6, 5, 5000))
    measured = []
    measure_all = Moments.measure_all.__func__

    def spy(cls, chunks, pairs, origins, *args, **kwargs):
        measured.extend(len(frame.origin) for frame in origins.frames["raw"])
        return measure_all(cls, chunks, pairs, origins, *args, **kwargs)

    monkeypatch.setattr(Moments, "measure_all", classmethod(spy))
    found = ask(spaces, ["cka"], [(0, 1), (0, 2)])
    assert measured == [6, 5]
    assert [found[pair][0].form for pair in found] == ["features", "gram"]


@pytest.mark.parametrize("dims", [(8, 6, 5, 8), (60, 50, 50, 70)])
@pytest.mark.parametrize("metric", ["rsa", "cka kernel=cosine", "cka_lower_bound", "knn"])
def test_zero_row_is_named_as_the_models_are(metric, dims):
    spaces = make_spaces(40, dims)
    spaces[2][7] = 0
    with pytest.raises(ValueError, match=r"^scl, row 7: all zeros"):
        ask(spaces, [metric])


@pytest.mark.parametrize("dims", [(8, 6, 5, 8), (60, 50, 50, 70)])
@pytest.mark.parametrize("metric", ["cka", "procrustes", "rsa distance=sqeuclidean"])
def test_row_that_is_not_finite_is_named_as_the_models_are(metric, dims):
    spaces = make_spaces(40, dims)
    spaces[3][5, 1] = math.nan
    with pytest.raises(ValueError, match=r"^ce, row 5: not finite"):
        ask(spaces, [metric])
    with pytest.raises(ValueError, match=r"^y, row 5, column 1: not finite"):
        compare(spaces[0], spaces[3], [metric])


@pytest.mark.parametrize("dims", [(8, 6, 5, 8), (60, 50, 50, 70)])
@pytest.mark.parametrize(
    "metric",
    [
        "cka",
        "cka hsic=debiased",
        "rsa",
        "rsa distance=correlation",
        "rsa distance=sqeuclidean",
        "cka hsic=debiased batch_size=8",
        "rsa distance=euclidean",
        "procrustes",
        "svcca",
        "pwcca",
        "cka kernel=rbf",
    ],
)
def test_constant_space_is_named_as_the_models_are(metric, dims):
    spaces = make_spaces(40, dims)
    spaces[1][:] = 0.1
    with pytest.raises(ValueError, match=r"^nscl(, row 0)?: "):
        ask(spaces, [metric])


@pytest.mark.parametrize("metric", ["cka_lower_bound", "rsa_lower_bound"])
@pytest.mark.parametrize("dims", [(8, 6), (60, 50)])
def test_bound_of_a_constant_space_is_refused_in_either_form(metric, dims):
    spaces = make_spaces(40, dims)
    spaces[1][:] = 0.1
    with pytest.raises(ValueError, match=r"^nscl: (every row|all cosine)"):
        ask(spaces, [metric], pairs=[(0, 1)])


def test_no_metric_gives_no_score():
    x, y = make_spaces()
    assert compare(x, y, []) == []
