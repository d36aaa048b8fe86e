import json
import os
import shutil
import signal
import time

import engine_workers
import pytest
import torch
from sessions import Session, launch_two, lives, needs_proc, noted_pids

from alignctl.engine import heartbeat
from alignctl.engine.context import WorkerContext
from alignctl.engine.heartbeat import Heartbeat, HeartbeatMonitor
from alignctl.errors import LaunchError


class Clock:
    """A clock that stands still until it is told otherwise."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    return clock


def watch(monitor, clock, seconds):
    """What the parent finds that looks every half second."""
    found = []
    for _ in range(int(2 * seconds)):
        clock.now += 0.5
        found.append(monitor.hung())
    return found


def test_a_worker_hangs_once_it_has_been_silent_for_longer_than_the_timeout(tmp_path, clock):
    monitor = HeartbeatMonitor(tmp_path, 2, timeout_s=3)
    Heartbeat(tmp_path, 1).beat()
    assert watch(monitor, clock, 3.5) == [None] * 7  # heard in the first half second
    assert watch(monitor, clock, 1) == [1, 1]


def test_the_worker_that_has_been_silent_longest_is_named(tmp_path, clock):
    monitor = HeartbeatMonitor(tmp_path, 3, timeout_s=3)
    Heartbeat(tmp_path, 2).beat()
    watch(monitor, clock, 1)
    Heartbeat(tmp_path, 0).beat()
    assert watch(monitor, clock, 10)[-1] == 2


def test_a_worker_that_beats_or_has_never_beaten_does_not_hang(tmp_path, clock):
    monitor, alive = HeartbeatMonitor(tmp_path, 2, timeout_s=3), Heartbeat(tmp_path, 0)
    for _ in range(20):
        alive.beat()
        time.sleep(0.005)  # the real clock of the file system
        assert watch(monitor, clock, 1) == [None, None]


def test_a_worker_that_waits_for_others_does_not_hang(tmp_path, clock):
    monitor, waiting = HeartbeatMonitor(tmp_path, 1, timeout_s=3), Heartbeat(tmp_path, 0)
    with waiting.paused():
        assert watch(monitor, clock, 10) == [None] * 20, "it had not even begun"
    waiting.beat()
    with waiting.paused():
        with waiting.paused():
            waiting.beat()
        assert watch(monitor, clock, 10) == [None] * 20
    assert watch(monitor, clock, 10)[-1] == 0, "the wait is over"
    waiting.end()
    assert watch(monitor, clock, 10) == [None] * 20


def test_time_in_which_nobody_looked_does_not_count(tmp_path, clock):
    monitor = HeartbeatMonitor(tmp_path, 1, timeout_s=3)
    Heartbeat(tmp_path, 0).beat()
    watch(monitor, clock, 1)
    clock.now += 3600  # the machine slept
    assert watch(monitor, clock, 1) == [None, None]
    assert watch(monitor, clock, 2)[-1] == 0


def test_beats_in_quick_succession_touch_the_file_once(tmp_path, clock):
    beats = Heartbeat(tmp_path, 0)
    beats.beat()
    (file,) = tmp_path.iterdir()
    file.unlink()
    clock.now += 0.1
    beats.beat()
    assert not file.exists()
    clock.now += 0.2
    beats.beat()
    assert file.exists()


def test_a_worker_works_on_where_its_heartbeat_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    beats = Heartbeat(tmp_path / "file", 0)
    beats.beat()
    with beats.paused():
        beats.beat()
    beats.end()


def test_asking_whether_to_stop_is_a_beat(tmp_path):
    context = WorkerContext(
        rank=0,
        size=1,
        device=torch.device("cpu"),
        threads=1,
        events_file=tmp_path / "events.jsonl",
        heartbeat=Heartbeat(tmp_path, 0),
    )
    assert not context.stops_before(0)
    assert (tmp_path / "alive_0").exists()
    with context.waiting():
        assert not (tmp_path / "alive_0").exists()


def test_a_worker_that_hangs_is_named_and_not_one_that_waited_for_it(tmp_path):
    with pytest.raises(LaunchError) as error:
        launch_two(engine_workers.work_then_hang, tmp_path, timeout_s=2)
    message = "worker 1 has made no progress for 2 s: it hangs; see --timeout"
    assert str(error.value) == message
    assert (tmp_path / "worked").exists(), "its work took longer than the timeout"
    assert not any(lives(pid) for pid in noted_pids(tmp_path))


def test_a_worker_that_is_stopped_hangs_and_is_gone_afterwards(tmp_path):
    with pytest.raises(LaunchError) as error:
        launch_two(engine_workers.be_stopped, tmp_path, timeout_s=2)
    assert str(error.value).startswith("worker 1 has made no progress for 2 s")
    assert not any(lives(pid) for pid in noted_pids(tmp_path))


@needs_proc
def test_a_job_that_was_stopped_and_continued_as_a_whole_does_not_hang(tmp_path):
    with Session(tmp_path, "work_for_a_while", TIMEOUT_S="3") as session:
        session.wait_for_workers()
        session.send(signal.SIGSTOP)
        time.sleep(4)
        os.kill(session.pid, signal.SIGCONT)  # the parent looks before the workers go on
        time.sleep(0.3)
        session.send(signal.SIGCONT)
        assert session.end() == (0, "")
    assert json.loads((tmp_path / "results.json").read_text()) == [0, 1]


def test_a_worker_whose_file_somebody_else_removed_still_hangs(tmp_path, clock):
    monitor = HeartbeatMonitor(tmp_path / "scratch", 1, timeout_s=3)
    Heartbeat(tmp_path / "scratch", 0).beat()
    assert watch(monitor, clock, 1) == [None, None]
    shutil.rmtree(tmp_path / "scratch")
    assert watch(monitor, clock, 4)[-1] == 0


def test_a_worker_that_waits_does_not_hang_where_its_files_are_removed(tmp_path, clock):
    monitor = HeartbeatMonitor(tmp_path / "scratch", 1, timeout_s=3)
    waiting = Heartbeat(tmp_path / "scratch", 0)
    waiting.beat()
    assert watch(monitor, clock, 1) == [None, None]
    with waiting.paused():
        assert watch(monitor, clock, 1) == [None, None]
        shutil.rmtree(tmp_path / "scratch")
        assert watch(monitor, clock, 10) == [None] * 20
    assert watch(monitor, clock, 10)[-1] == 0, "and is missed again once it works"
