import threading
import time

import pytest
import stopping_workers

from alignctl.engine.launch import launch
from alignctl.engine.placement import ProcessPlan
from alignctl.engine.stopping import Stopping, is_stop_requested, request_stop

DEADLINE_S = 60


@pytest.mark.parametrize("num_processes", [2, 3])
def test_workers_agree_on_a_step_whenever_they_are_asked(tmp_path, num_processes):
    everywhere = launch(
        stopping_workers.stop_again_and_again,
        tmp_path,
        plan=ProcessPlan(num_processes, 1, "cpu"),
        events_file=tmp_path / "events.jsonl",
    )
    rounds = everywhere[0]
    assert everywhere == [rounds] * num_processes
    assert len(rounds) == 24
    for one in rounds:
        assert len(set(one["ends"])) == 1, one
        assert one["begin"] <= one["ends"][0] <= one["end"]
    midway = [one for one in rounds if one["begin"] < one["ends"][0] < one["end"]]
    assert len(midway) > 6, "most rounds were stopped in their midst"
    assert any(one["ends"][0] == one["end"] for one in rounds), "some had ended"


def of_three(folder):
    return [Stopping(folder, rank=rank, size=3) for rank in range(3)]


def agreed(worker, step):
    """What a worker that has come to a step is told, within the deadline."""
    found = []
    thread = threading.Thread(target=lambda: found.append(worker.agreed_step(step)), daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    return found


def wait_until_asked(worker, first_step):
    """The first step that a worker may not begin at once."""
    for step in range(first_step, first_step + 100 * DEADLINE_S):
        if not worker.begins(step):
            return step
        time.sleep(0.01)
    raise AssertionError("it was asked long ago")


def test_nobody_stops_before_someone_asks(tmp_path):
    first, *_ = of_three(tmp_path)
    assert not is_stop_requested(tmp_path)
    assert all(first.begins(step) for step in range(1000))
    assert list(tmp_path.iterdir()) == [], "and nothing is published"


def test_a_worker_in_the_midst_of_a_step_publishes_by_itself(tmp_path):
    first, second, third = of_three(tmp_path)
    assert first.begins(7)  # and is in there for good
    assert third.begins(6)
    request_stop(tmp_path)
    step = wait_until_asked(second, 0)
    expected = max(step, 8)
    assert agreed(second, step) == agreed(third, 7) == [expected]


def test_workers_that_were_asked_before_their_first_step_take_none(tmp_path):
    request_stop(tmp_path)
    first, second, third = of_three(tmp_path)
    assert not any(worker.begins(5) for worker in (first, second, third))
    third.no_more_steps()
    results = []
    thread = threading.Thread(target=lambda: results.append(first.agreed_step(5)), daemon=True)
    thread.start()
    assert agreed(second, 5) == [5]
    thread.join(DEADLINE_S)
    assert results == [5]


def test_workers_without_further_steps_do_not_keep_the_others(tmp_path):
    first, second, third = of_three(tmp_path)
    first.no_more_steps()  # it had none at all
    assert second.begins(4)
    second.no_more_steps()
    assert third.begins(0)
    request_stop(tmp_path)
    assert agreed(third, 1) == [5]


def test_the_last_word_stays_the_last(tmp_path):
    first, second, third = of_three(tmp_path)
    for worker in (first, second, third):
        assert worker.begins(1)
        worker.no_more_steps()
        worker.no_more_steps()
    request_stop(tmp_path)
    assert agreed(first, 2) == agreed(second, 9) == [2]


def test_a_number_that_cannot_be_written_is_written_once_it_can(tmp_path):
    first, second, third = of_three(tmp_path)
    blocked = tmp_path / "not_begun_0.partial"
    blocked.mkdir()
    assert first.begins(2)
    second.no_more_steps()
    third.no_more_steps()
    request_stop(tmp_path)
    time.sleep(0.3)
    assert not (tmp_path / "not_begun_0").exists()
    blocked.rmdir()
    assert agreed(first, 3) == [3]
