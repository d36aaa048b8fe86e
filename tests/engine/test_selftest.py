import pytest

from alignctl.engine import selftest
from alignctl.engine.selftest import add_up, all_reduce_between_two
from alignctl.errors import LaunchError


@pytest.fixture
def launching(monkeypatch):
    """A function of what a launch does in place of starting processes."""
    return lambda instead: monkeypatch.setattr(selftest, "launch", instead)


def test_two_real_processes_agree():
    found = all_reduce_between_two("cpu")
    assert (found.backend, found.processes, found.error) == ("gloo", 2, None)
    assert found.seconds > 0


def test_one_process_adds_nothing(one_process):
    assert add_up(one_process, 3) == [0, 1, 2]


def test_wrong_sums_are_found(launching):
    right = [2 * value + 1 for value in range(1000)]
    launching(lambda *_, **__: [right, [*right[:-1], 0.0]])
    assert all_reduce_between_two("cpu").error == "the sums of process 1 are wrong"


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (LaunchError("worker 1 died with code 1"), "worker 1 died with code 1"),
        (RuntimeError("no socket\n  in this line of C++"), "no socket"),
        (OSError(), "OSError"),
    ],
    ids=["launch", "torch", "empty"],
)
def test_whatever_fails_is_told_in_a_line(launching, failure, message):
    def launch(*_, **__):
        raise failure

    launching(launch)
    assert all_reduce_between_two("cpu").error == message


def test_gpus_that_are_not_there_are_an_error_of_the_test(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = all_reduce_between_two("cuda")
    assert (found.backend, found.error) == ("nccl", "--device: cuda is not available here")
