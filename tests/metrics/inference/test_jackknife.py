import math

import numpy as np
import pytest
import torch

from alignctl.metrics import compare
from alignctl.metrics.inference.jackknife import Strata, jackknife_estimate

METRICS = ["cka", "cka hsic=debiased", "cka kernel=rbf", "rsa", "rsa distance=sqeuclidean",
           "rsa distance=euclidean", "rsa correlation=spearman"]  # fmt: skip


def make_spaces(num_rows=40, d1=5, d2=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, d1, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x, y + torch.randn(num_rows, d2, generator=generator, dtype=torch.float64)


def error_of(pulls, labels=None):
    strata = Strata.of(labels, len(pulls))
    return jackknife_estimate(0.5, strata.sums(pulls), kind=strata.kind)


def pulls_of(num_images, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_images, generator=generator, dtype=torch.float64).exp()


def naive_stratified(pulls, labels):
    total = 0.0
    for label in set(labels):
        some = [float(p) for p, other in zip(pulls, labels, strict=True) if other == label]
        mean = sum(some) / len(some)
        total += len(some) / (len(some) - 1) * sum((p - mean) ** 2 for p in some)
    return math.sqrt(total) / len(pulls)


def test_the_simple_error_is_that_of_the_mean_of_the_pulls():
    pulls = pulls_of(50)
    assert error_of(pulls).standard_error == pytest.approx(float(pulls.std()) / math.sqrt(50))
    assert error_of(pulls).interval_kind == "simple"


@pytest.mark.parametrize("labels", [[0, 1] * 25, ["b"] * 2 + ["a"] * 48, [3, 9, 9, 3, -1] * 10])
def test_the_stratified_error_is_of_pulls_about_the_mean_of_their_class(labels):
    pulls = pulls_of(50)
    found = error_of(pulls, labels)
    assert found.standard_error == pytest.approx(naive_stratified(pulls, labels))
    assert found.interval_kind == "stratified"


def test_one_class_of_all_has_the_simple_error():
    pulls = pulls_of(50)
    assert error_of(pulls, [7] * 50).standard_error == pytest.approx(error_of(pulls).standard_error)


def test_an_image_alone_in_its_class_counts_about_the_mean_of_all():
    pulls, labels = pulls_of(21), [0] * 10 + [1] * 10 + [2]
    of_two = 20 * naive_stratified(pulls[:20], labels[:20])
    alone = float(pulls[20] - pulls.mean())
    expected = math.sqrt(of_two**2 + alone**2) / 21
    assert error_of(pulls, labels).standard_error == pytest.approx(expected)
    assert error_of(pulls, range(21)) == error_of(pulls)  # where all are, nothing is stratified


def test_degrees_of_freedom_follow_from_how_much_the_variance_varies():
    def freedom(pulls, labels=None):
        return error_of(torch.tensor(pulls, dtype=torch.float64), labels).degrees_of_freedom

    # Of two values as often nothing varies: all that the number of images allows.
    assert freedom([1.0, -1.0] * 50) == 99
    assert freedom([1.0, -1.0] * 50, [0, 1, 1, 0] * 25) == 98
    # 2 n / (kurtosis - 1); one image of a hundred that makes the whole error has about one.
    pulls = pulls_of(100).tolist()
    spread = np.array(pulls) - np.mean(pulls)
    kurtosis = np.mean(spread**4) / np.mean(spread**2) ** 2
    relative = kurtosis / 100 * (99 / 100) ** 2 - 1 / 100
    assert freedom(pulls) == pytest.approx(2 / relative)
    assert 1 <= freedom([0.0] * 99 + [50.0]) < 2.2


def test_equal_pulls_have_no_error():
    assert error_of(torch.full((30,), 0.1, dtype=torch.float64)).standard_error == 0
    by_class = torch.tensor([0.1, 7.7], dtype=torch.float64).repeat(15)
    assert error_of(by_class, [0, 1] * 15).standard_error == pytest.approx(0, abs=1e-8)


def test_a_pull_that_is_not_known_leaves_no_error():
    pulls = pulls_of(30)
    pulls[4] = math.nan
    found = error_of(pulls, [0, 1] * 15)
    assert found.standard_error is None
    assert found.no_interval == "one image alone makes the score"


def test_sums_of_parts_add_up_to_those_of_all():
    pulls, strata = pulls_of(30), Strata.of([0, 1, 2] * 10, 30)
    parts = sum(strata.at(part).sums(pulls[part]) for part in (slice(0, 7), slice(7, 30)))
    torch.testing.assert_close(parts, strata.sums(pulls))


@pytest.mark.parametrize("num_rows", [5, 10, 19, 20])
@pytest.mark.parametrize("dims", [(5, 4), (60, 50)])
def test_fewer_than_twenty_images_have_no_interval_and_say_why(num_rows, dims):
    for score in compare(*make_spaces(num_rows, *dims), METRICS):
        if num_rows < 20:
            assert (score.ci_low, score.ci_high) == (None, None), score.metric
            assert score.interval == f"none: it takes 20 images, not {num_rows}"
        else:
            assert score.ci_low < score.value < score.ci_high
            assert score.interval == "simple"


def test_no_interval_was_asked_for_or_a_metric_has_none():
    spaces = make_spaces()
    assert all(score.interval is None for score in compare(*spaces, METRICS, confidence=None))
    assert all(score.interval is None for score in compare(*spaces, ["procrustes", "knn"]))


@pytest.mark.parametrize("dims", [(5, 4), (60, 50)])
def test_labels_make_intervals_stratified_in_every_form(dims):
    x, y = make_spaces(60, *dims)
    labels = np.repeat(["a", "b", "c"], 20)
    x, y = (space + 6 * torch.from_numpy(np.repeat([0.0, 1, 2], 20))[:, None] for space in (x, y))
    for simple, within in zip(
        compare(x, y, METRICS), compare(x, y, METRICS, labels=labels), strict=True
    ):
        assert (simple.value, simple.metric) == (within.value, within.metric)
        assert (simple.interval, within.interval) == ("simple", "stratified")
        assert within.ci_high - within.ci_low != pytest.approx(simple.ci_high - simple.ci_low)


def test_the_stratified_interval_is_of_scores_without_one_image_at_a_time():
    x, y = make_spaces(30)
    labels = [0, 1, 2] * 10
    for metric in METRICS[:6]:
        (score,) = compare(x, y, metric, labels=labels)
        if "rbf" in metric:
            continue  # the width of the kernel is taken as given
        left_out = [
            compare(x[k], y[k], metric, confidence=None)[0].value
            for k in ([j for j in range(30) if j != i] for i in range(30))
        ]
        pulls = torch.tensor([29 * (score.value - value) for value in left_out])
        strata = Strata.of(labels, 30)
        expected = jackknife_estimate(score.value, strata.sums(pulls.double()), kind=strata.kind)
        ends = (score.ci_low, score.ci_high)
        assert ends == pytest.approx(expected.interval(0.95), abs=1e-6), metric


def test_a_sample_of_images_takes_their_labels():
    x, y = make_spaces(90)
    labels = np.arange(90) % 3
    metrics = ["cka kernel=rbf images=60", "rsa correlation=spearman pairs=200"]
    for score in compare(x, y, metrics, labels=labels):
        assert score.interval == "stratified"
        assert score.ci_low < score.value < score.ci_high


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], r"labels: want one for each of 40 rows, got \(2,\)"),
        ([[1]] * 40, r"labels: want one for each of 40 rows, got \(40, 1\)"),
        ("cat", r"labels: want one for each of 40 rows, got \(\)"),
        ([None, 1] * 20, "labels: want numbers or texts that can be compared"),
        ([math.nan, 1.0] * 20, "labels: row 0 has none"),
    ],
)
def test_labels_that_are_not_one_for_each_row_are_refused(labels, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        compare(*make_spaces(), "rsa", labels=labels)


@pytest.mark.parametrize("labels", [
    np.ma.masked_array([0, 1] * 20, mask=[True] + [False] * 39),
    np.array([0.0, float("nan")] * 20),
    np.array([0.0, float("nan")] * 20, dtype=object),
    np.array(["2020-01-01", "NaT"] * 20, dtype="M8[D]"),
    torch.zeros(40).to("meta"),
    torch.tensor([0, 1] * 20).to_sparse(),
    [[0], [0, 1]] * 20,
    [None, "a"] * 20,
])  # fmt: skip
def test_labels_that_are_missing_or_unreadable_are_refused_by_name(labels):
    with pytest.raises(ValueError, match=r"^labels: "):
        Strata.of(labels, 40)


def test_labels_of_any_plain_kind_give_the_same_strata():
    numbers = [0, 1] * 20
    expected = Strata.of(numbers, 40)
    for labels in (np.array(numbers), torch.tensor(numbers), torch.tensor(numbers).bfloat16(),
                   torch.tensor(numbers, dtype=torch.float32, requires_grad=True),
                   ["cat", "dog"] * 20):  # fmt: skip
        found = Strata.of(labels, 40)
        assert (found.count, found.kind) == (2, "stratified")
        assert torch.equal(found.index, expected.index)


def test_nothing_is_stratified_where_every_image_is_a_class_of_its_own():
    assert Strata.of(range(40), 40).kind == "simple"
