import os
import signal
import sys
import threading
from datetime import timedelta

import engine_workers
import pytest
from sessions import launch_two, lives, noted_pids

from alignctl.engine.launch import launch
from alignctl.engine.placement import ProcessPlan
from alignctl.errors import LaunchError, TrainingError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT)


def test_results_come_in_the_order_of_ranks(described):
    results, _ = described
    size = len(results)
    assert [result["rank"] for result in results] == list(range(size))
    assert len({result["pid"] for result in results} | {os.getpid()}) == size + 1
    for result in results:
        assert (result["size"], result["payload"], result["device"]) == (
            size, "payload", "cpu",
        )  # fmt: skip


def test_each_process_uses_the_threads_of_the_plan(described):
    results, _ = described
    for result in results:
        assert result["threads"] == result["torch_threads"] == 3
        assert set(result["environment"].values()) == {"3"}


def test_an_honest_wait_for_a_peer_may_take_a_day(described):
    results, _ = described
    assert {result["collective_timeout"] for result in results} == {timedelta(days=1)}


def test_a_worker_is_told_to_stop_only_where_someone_asks(described):
    results, _ = described
    assert not any(result["stops"] for result in results)


def test_an_error_of_ours_arrives_as_itself_and_ends_the_other_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    environment, handlers = dict(os.environ), [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(TrainingError) as error:
        launch_two(engine_workers.refuse, tmp_path, stoppable=True)
    assert str(error.value) == "epoch 3: größer als erlaubt\n(1, 2)"
    assert not lives(int((tmp_path / "0.pid").read_text()))
    assert dict(os.environ) == environment
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_any_other_exception_arrives_as_one_line_with_its_cause(tmp_path):
    with pytest.raises(LaunchError) as error:
        launch_two(engine_workers.break_down, tmp_path)
    assert str(error.value) == "a worker failed: ValueError: no such thing"
    if sys.version_info >= (3, 11):  # for -v
        assert "in break_down" in "".join(error.value.__notes__)


def test_the_real_reason_is_told_though_a_peer_noticed_its_loss_before(tmp_path):
    with pytest.raises(TrainingError) as error:
        launch_two(engine_workers.lose_peer_first, tmp_path)
    assert str(error.value) == "the real reason"


def test_a_killed_worker_is_reported_with_its_signal(tmp_path):
    with pytest.raises(LaunchError) as error:
        launch_two(engine_workers.die, tmp_path)
    assert str(error.value).splitlines() == ["worker 1 died with signal 9 (SIGKILL)"]
    assert not any(lives(pid) for pid in noted_pids(tmp_path))


def test_what_cannot_be_sent_to_a_worker_is_an_error_and_starts_none(tmp_path):
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        launch(
            engine_workers.describe,
            threading.Lock(),
            plan=ProcessPlan(1, 1, "cpu"),
            events_file=tmp_path / "events.jsonl",
        )


@pytest.fixture
def seen_while_it_works(monkeypatch):
    """The environment and signal handlers in the midst of a launch that starts no processes."""
    seen = {}

    def start_nothing(config, entrypoint):
        seen.update(os.environ)
        seen["handlers"] = [signal.getsignal(number) for number in SIGNALS]
        return lambda job: {0: "zero", 1: "one"}

    monkeypatch.setattr("alignctl.engine.launch.elastic_launch", start_nothing)
    return seen


def test_a_launch_leaves_handlers_and_environment_as_they_were(
    seen_while_it_works, monkeypatch, tmp_path
):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    environment, handlers = dict(os.environ), [signal.getsignal(number) for number in SIGNALS]
    assert launch_two(engine_workers.describe, tmp_path) == ["zero", "one"]
    assert seen_while_it_works["OMP_NUM_THREADS"] == "1"
    assert seen_while_it_works["OPENBLAS_NUM_THREADS"] == "1"
    assert seen_while_it_works["handlers"][0] != handlers[0]
    assert dict(os.environ) == environment
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_outside_the_main_thread_no_signal_is_handled(seen_while_it_works, tmp_path):
    handlers, results = [signal.getsignal(number) for number in SIGNALS], []
    thread = threading.Thread(
        target=lambda: results.extend(launch_two(engine_workers.describe, tmp_path))
    )
    thread.start()
    thread.join(60)
    assert results == ["zero", "one"]
    assert seen_while_it_works["handlers"] == handlers


def test_a_signal_that_was_ignored_by_nohup_stays_so(seen_while_it_works, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        launch_two(engine_workers.describe, tmp_path)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen_while_it_works["handlers"][SIGNALS.index(signal.SIGHUP)] == signal.SIG_IGN
