"""The pool of processes that other tests use."""

import json
import sys
from pathlib import Path
from pickle import PicklingError

import pytest
from pool import PoolError

sys.path.insert(0, str(Path(__file__).parent / "workers"))

import pool_workers as workers

from alignctl.errors import TrainingError


@pytest.mark.parametrize("size", [1, 2, 4])
def test_processes_answer_in_the_order_of_ranks(pool, tmp_path, size):
    events_file = tmp_path / "events.jsonl"
    found = pool.launch(workers.ranks, "payload", size=size, events_file=events_file)
    pids = found[0][2]
    total = size * (size + 1) / 2
    assert found == [(rank, "payload", pids, total) for rank in range(size)]
    assert len(set(pids)) == size
    (event,) = events_file.read_text().splitlines()
    assert json.loads(event)["event"] == "hello"


def test_a_task_finds_nothing_of_those_before_it(pool):
    assert [pool.launch(workers.mark, None, size=1) for _ in range(2)] == [[False]] * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_the_error_is_that_of_the_process_that_failed(pool, rank):
    with pytest.raises(TrainingError, match=r"^loss is nan$"):
        pool.launch(workers.fail, rank, size=2)


def test_an_error_that_cannot_be_sent_is_told_by_its_text(pool):
    with pytest.raises(RuntimeError, match="LocalError: of this function"):
        pool.launch(workers.fail_with_what_does_not_pickle, None, size=1)


def test_processes_that_die_or_hang_leave_the_pool_usable(pool):
    with pytest.raises(PoolError, match=r"\{0: 9\}"):
        pool.launch(workers.die, 0, size=1)
    with pytest.raises(PoolError, match=r"time limit: \[0\]"):
        pool.launch(workers.hang, 0, size=1, timeout_s=0.2)
    with pytest.raises((AttributeError, PicklingError), match="local object"):
        pool.launch(workers.return_what_does_not_pickle, None, size=1)
    assert pool.launch(workers.mark, None, size=1) == [False]


def test_the_death_of_a_process_is_told_rather_than_its_loss(pool):
    with pytest.raises(PoolError, match=r"\{1: 9\}"):
        pool.launch(workers.die, 1, size=2)


def test_a_closed_pool_starts_again(pool):
    pool.close()
    assert pool.launch(workers.mark, None, size=1) == [False]
