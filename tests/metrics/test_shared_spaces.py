from dataclasses import dataclass

import pytest
import torch

from alignctl.config.metric_configs import parse_metrics
from alignctl.metrics import neighbours, pairs, shared_spaces
from alignctl.metrics.feature_space import InMemory
from alignctl.metrics.scoring import Question, scores
from alignctl.metrics.shared_spaces import SharedSpaces
from alignctl.metrics.sums import gram

PAIRS = [(i, j) for i in range(4) for j in range(i + 1, 4)]
# Two metrics of each kind of matrix, so that what one made serves the other.
METRICS = (
    "cka", "cka hsic=debiased", "rsa", "cka kernel=rbf", "cka kernel=rbf hsic=debiased",
    "rsa correlation=spearman", "rsa correlation=kendall", "rsa distance=euclidean",
    "knn k=3", "knn k=3 images=25", "rsa correlation=spearman pairs=60",
)  # fmt: skip


@dataclass
class Made:
    num_bytes: int


def test_what_is_kept_is_made_once_and_what_was_not_used_for_longest_goes():
    shared, made = SharedSpaces(limit=10), []

    def get(name, num_bytes=4):
        return shared.get(name, lambda: made.append(name) or Made(num_bytes))

    assert get("a") is get("a")
    get("b")
    get("a")
    get("c")  # b goes
    get("a")
    get("b")
    assert made == ["a", "b", "c", "b"]


def test_what_is_larger_than_the_limit_is_made_again():
    shared = SharedSpaces(limit=10)
    first = shared.get("a", lambda: Made(11))
    assert first.num_bytes == 11
    assert shared.get("a", lambda: Made(11)) is not first


def spaces_of(dims=(9, 8, 7, 9)):
    stream = torch.Generator().manual_seed(0)
    shared = torch.randn(40, 5, generator=stream, dtype=torch.float64)
    return [shared @ torch.randn(5, d, generator=stream, dtype=torch.float64)
            + torch.randn(40, d, generator=stream, dtype=torch.float64) for d in dims]  # fmt: skip


def found(spaces, pairs, metrics=METRICS):
    question = Question(parse_metrics(metrics))
    names = tuple("abcd"[: len(spaces)])
    return scores([InMemory(x) for x in spaces], pairs, question, names=names)


@pytest.mark.parametrize("limit", [0, 2**30], ids=["nothing kept", "all kept"])
@pytest.mark.parametrize("dims", [(9, 8, 7, 9), (60, 50, 60, 50)], ids=["sums", "kernels"])
def test_several_spaces_have_the_bits_of_each_pair_by_itself(dims, limit, monkeypatch):
    monkeypatch.setattr(shared_spaces.SharedSpaces.__init__, "__defaults__", (limit,))
    spaces = spaces_of(dims)
    together = found(spaces, PAIRS)
    for i, j in PAIRS:
        assert together[i, j] == found([spaces[i], spaces[j]], [(0, 1)])[0, 1]


@pytest.fixture
def counted(monkeypatch):
    """How often something is made of a space, by the function that makes it."""
    counts = {}
    for module, name in (
        (gram, "linear_kernel"),
        (gram, "_median_distance"),
        (pairs, "_measured"),
        (neighbours._Space, "of"),
    ):
        make = getattr(module, name)
        counts[name] = 0

        def call(*words, make=make, name=name, **options):
            counts[name] += 1
            return make(*words, **options)

        monkeypatch.setattr(module, name, call)
    return counts


def test_every_matrix_is_made_once_for_each_space(counted):
    found(spaces_of((60, 50, 60, 50)), PAIRS)
    assert counted == {
        "linear_kernel": 2 * 4,  # raw rows for both kinds of CKA, unit rows for RSA
        "_median_distance": 4,
        "_measured": 3 * 4,  # ranks for Spearman and Kendall, distances, ranks of a sample
        "of": 2 * 4,  # all images, and a sample
    }


def test_a_space_without_neighbours_is_named_in_each_of_its_pairs():
    spaces = spaces_of()
    spaces[2][:] = 1
    question = Question(parse_metrics(("cka", "knn k=3")), each_by_itself=True)
    by_pair = scores([InMemory(x) for x in spaces], PAIRS, question, names=tuple("abcd"))
    for pair, (_, knn) in by_pair.items():
        assert (knn.note == "c: every row is the same") == (2 in pair)


def test_neighbours_in_long_lists_are_found_block_by_block(monkeypatch):
    x, y = (space.round() for space in spaces_of((2, 2)))  # many ties
    expected = neighbours.knn_overlap(x, y, k=3, distance="euclidean")
    monkeypatch.setattr(neighbours, "_LISTED_AT_MOST", 100)
    assert neighbours.knn_overlap(x, y, k=3, distance="euclidean") == expected
