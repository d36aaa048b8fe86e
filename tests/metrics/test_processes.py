import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from alignctl.config.metric_configs import parse_metrics
from alignctl.metrics import feature_space
from alignctl.metrics.feature_space import InMemory, share_in_chunks
from alignctl.metrics.scoring import Question, scores
from alignctl.metrics.sums import rows
from alignctl.processes import Alone

METRICS = ["cka", "cka hsic=debiased", "cka kernel=cosine", "rsa", "rsa distance=correlation",
           "rsa distance=euclidean", "cka_lower_bound", "rsa_lower_bound", "procrustes", "pwcca",
           "knn k=3", "cka kernel=rbf"]  # fmt: skip
PAIRS = [(0, 1), (2, 0)]


class EndedEarlyError(Exception):
    """Another process came to its end where this one wanted to exchange values."""


class Meeting:
    """Where threads that stand for processes exchange values; one of them runs at a time."""

    END = object()

    def __init__(self, num_members):
        self.barrier = threading.Barrier(num_members, timeout=60)
        self.running = threading.Lock()
        self.values = [None] * num_members

    def exchange(self, rank, value):
        self.values[rank] = value
        self.running.release()
        try:
            self.barrier.wait()
            values = list(self.values)
            self.barrier.wait()
        finally:
            self.running.acquire()
        ended = [value is self.END for value in values]
        if any(ended) and not all(ended):
            raise EndedEarlyError
        return values


class Member:
    def __init__(self, rank, meeting):
        self.rank, self.size = rank, len(meeting.values)
        self._meeting = meeting

    def sum(self, tensors):
        everyone = self._meeting.exchange(self.rank, [tensor.clone() for tensor in tensors])
        return [torch.stack(parts).sum(dim=0) for parts in zip(*everyone, strict=True)]

    def gather(self, value):
        return self._meeting.exchange(self.rank, value)


def on_all(function, num_members=2):
    """What the function of a member returns or raises, on every one."""
    meeting = Meeting(num_members)

    def run(rank):
        with meeting.running:
            try:
                result = function(Member(rank, meeting))
            except EndedEarlyError as error:
                return error
            except ValueError as error:
                result = error
            with contextlib.suppress(EndedEarlyError):
                meeting.exchange(rank, Meeting.END)
            return result

    with ThreadPoolExecutor(num_members) as pool:
        return list(pool.map(run, range(num_members)))


def make_spaces(num_rows=41, dims=(8, 6, 5), seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(num_rows, 4, generator=generator, dtype=torch.float64)
    return [
        (
            shared @ torch.randn(4, d, generator=generator, dtype=torch.float64)
            + torch.randn(num_rows, d, generator=generator, dtype=torch.float64)
        ).to(dtype)
        for d in dims
    ]


def metrics_of(dims):
    """All of METRICS that spaces of 41 images have."""
    return [metric for metric in METRICS if metric != "pwcca" or sum(dims) < 40]


def ask(spaces, processes, metrics=METRICS, pairs=PAIRS, **options):
    question = Question(parse_metrics(metrics), **options)
    names = ["cl", "nscl", "scl"][: len(spaces)]
    return scores([InMemory(x) for x in spaces], pairs, question, names=names, processes=processes)


def assert_same(found, expected):
    assert list(found) == list(expected)
    for pair, alone in expected.items():
        for one, other in zip(found[pair], alone, strict=True):
            assert (one.metric, one.form) == (other.metric, other.form)
            for name in ("value", "ci_low", "ci_high", "p_value"):
                a, b = getattr(one, name), getattr(other, name)
                assert (a is None) == (b is None)
                assert a is None or a == pytest.approx(b, abs=1e-9)


@pytest.mark.parametrize("dims", [(8, 6, 5), (60, 50, 70)])
@pytest.mark.parametrize("permutations", [0, 15])
def test_two_processes_have_the_scores_of_one(dims, permutations):
    spaces = make_spaces(dims=dims)
    options = {"metrics": metrics_of(dims[:2]), "permutations": permutations}
    expected = ask(spaces, Alone(), **options)
    for found in on_all(lambda member: ask(spaces, member, **options)):
        assert_same(found, expected)


@pytest.mark.parametrize("dims", [(3, 2), (60, 50)])
@pytest.mark.parametrize("permutations", [1, 2, 25])
def test_no_shuffle_is_counted_twice(dims, permutations):
    spaces = [make_spaces(dims=(dim,), seed=seed)[0] for seed, dim in enumerate(dims)]
    options = {"metrics": METRICS[:5], "pairs": [(0, 1)], "permutations": permutations, "seed": 2}
    expected = ask(spaces, Alone(), **options)
    assert permutations < 25 or all(score.p_value > 2 / 26 for score in expected[0, 1])
    for found in on_all(lambda member: ask(spaces, member, **options)):
        assert_same(found, expected)


def test_each_process_reads_rows_of_its_own_in_chunks(monkeypatch):
    monkeypatch.setattr(feature_space, "CHUNK", 8)
    spaces = make_spaces(num_rows=41)
    expected = ask(spaces, Alone(), METRICS[:5])
    for found in on_all(lambda member: ask(spaces, member, METRICS[:5])):
        assert_same(found, expected)


@pytest.mark.parametrize("num_rows", [1, 2, 7, 8192, 50_000])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_processes_share_all_rows_and_none_twice(num_rows, size):
    parts = [
        [range(num_rows)[part] for part in share_in_chunks(num_rows, Alone(rank, size))]
        for rank in range(size)
    ]
    assert all(parts)  # each has a chunk, if an empty one
    assert [row for part in parts for chunk in part for row in chunk] == list(range(num_rows))
    assert max(len(chunk) for part in parts for chunk in part) <= feature_space.CHUNK


def test_processes_without_rows_have_the_scores_too():
    spaces = make_spaces(num_rows=5, dims=(3, 4, 3))
    metrics = ["cka", "cka hsic=debiased", "rsa", "rsa distance=sqeuclidean", "cka kernel=rbf"]
    expected = ask(spaces, Alone(), metrics, permutations=3)
    found = on_all(lambda member: ask(spaces, member, metrics, permutations=3), num_members=7)
    assert len(found) == 7
    for one in found:
        assert_same(one, expected)


def test_space_without_a_score_is_named_on_every_process():
    spaces = make_spaces()
    spaces[1][:] = 0.1
    for error in on_all(lambda member: ask(spaces, member, ["cka"])):
        with pytest.raises(ValueError, match=r"^nscl: every row is the same"):
            raise error


def test_row_without_a_score_is_named_by_its_number_among_all():
    spaces = make_spaces()
    spaces[2][30] = 0
    for error in on_all(lambda member: ask(spaces, member, ["rsa"])):
        with pytest.raises(ValueError, match=r"^scl, row 30: all zeros"):
            raise error


@pytest.mark.parametrize("dims", [(8, 6, 5), (60, 50, 70)])
def test_processes_agree_on_what_cannot_be_computed(dims):
    spaces = make_spaces(dims=dims)
    spaces[2][30] = 0
    metrics = ["cka", "rsa", "rsa distance=euclidean", "cka_lower_bound", "pwcca", "knn k=90"]
    options = {"each_by_itself": True, "permutations": 5}
    expected = ask(spaces, Alone(), metrics, **options)
    assert expected[2, 0][1].note == "scl, row 30: all zeros, so it has no cosine"
    for found in on_all(lambda member: ask(spaces, member, metrics, **options)):
        assert_same(found, expected)
        notes = [[score.note for score in part] for part in found.values()]
        assert notes == [[score.note for score in part] for part in expected.values()]


def test_processes_agree_on_when_float64_is_needed(monkeypatch):
    # As with 2049 images, of which one process has 1024 and the other 1025.
    monkeypatch.setattr(rows, "_FRAME_ROWS", 16)
    generator = torch.Generator().manual_seed(0)
    simplex = torch.eye(33)[:, :32]
    spaces = [simplex + 1e-3 * torch.randn(33, 32, generator=generator) for _ in range(2)]
    metrics = ["cka hsic=debiased"]
    expected = ask(spaces, Alone(), metrics, [(0, 1)], confidence=None)
    for found in on_all(lambda member: ask(spaces, member, metrics, [(0, 1)], confidence=None)):
        assert_same(found, expected)
