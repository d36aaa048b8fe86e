import json
import multiprocessing
import os
import signal
import subprocess
import time

import engine_workers
import pytest
from sessions import Session, launch_two, lives, needs_proc, noted_pids

from alignctl.engine.signals import preemption_is_an_error
from alignctl.errors import LaunchError, PreemptedError


def signal_on(**signals):
    """A listener that sends this very process a signal once it hears an event."""
    return lambda event: (
        os.kill(os.getpid(), signals[event["event"]]) if event["event"] in signals else None
    )


def signal_all_on_begun(folder, number):
    """A listener that sends the workers a signal, and later this process, which is their parent."""

    def listen(event):
        if event["event"] == "begun":
            pids = map(str, noted_pids(folder))
            # by another process, for their parent's SIGTERM means something else to workers
            subprocess.run(["/bin/sh", "-c", f"kill -{int(number)} {' '.join(pids)}"], check=True)
            time.sleep(0.3)
            os.kill(os.getpid(), number)

    return listen


@needs_proc
def test_an_interrupt_ends_parent_and_workers_without_a_word(tmp_path):
    with Session(tmp_path, "wait_long") as session:
        assert len(set(session.wait_for_workers())) == 2
        session.send(signal.SIGINT)
        assert session.end() == (130, "")


@needs_proc
def test_an_interrupt_while_workers_start_ends_all_without_a_word(tmp_path):
    with Session(tmp_path, "wait_long", fresh=True, SIGNALS_AT_START="SIGINT") as session:
        assert session.end() == (130, "")
    assert not list(tmp_path.glob("*.pid")), "no worker came to its work"
    assert not list(session.scratch.glob("alignctl-*")), "the scratch folder is gone"


@needs_proc
def test_workers_do_not_outlive_a_killed_parent_even_where_they_are_stopped(tmp_path):
    with Session(tmp_path, "wait_long") as session:
        pids = session.wait_for_workers()
        os.kill(pids[1], signal.SIGSTOP)
        session.kill()
        session.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_ends_a_launch_that_cannot_stop(tmp_path, number):
    listener = signal_all_on_begun(tmp_path, number)
    with pytest.raises(PreemptedError) as error:
        launch_two(engine_workers.wait_and_tell, tmp_path, listener=listener)
    message = f"stopped by {number.name} before the end; run the same command again"
    assert str(error.value) == message
    assert not any(lives(pid) for pid in noted_pids(tmp_path))


@pytest.mark.parametrize("stoppable", [False, True])
def test_a_terminal_that_closes_ends_a_launch_as_python_exits(monkeypatch, tmp_path, stoppable):
    def lose_terminal(job):
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.5)
        return {0: None, 1: None}

    monkeypatch.setattr("alignctl.engine.launch.elastic_launch", lambda *_: lose_terminal)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
    try:
        with pytest.raises(SystemExit) as raised:
            launch_two(engine_workers.describe, tmp_path, stoppable=stoppable)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert raised.value.code == 128 + signal.SIGHUP


def test_workers_stop_before_the_same_step_though_one_is_ahead(tmp_path):
    first, second = launch_two(
        engine_workers.step_freely,
        tmp_path,
        stoppable=True,
        listener=signal_all_on_begun(tmp_path, signal.SIGTERM),
    )
    assert first == second > 10


@needs_proc
def test_workers_stop_before_the_same_step_though_one_is_within_a_collective(tmp_path):
    with Session(tmp_path, "step_together", "stoppable") as session:
        session.wait_for_workers()
        session.send(signal.SIGTERM)
        session.wait_for("tmp/alignctl-*/not_begun_[01]", number=2)
        session.send(signal.SIGTERM, signal.SIGUSR1)  # once asked, asking again changes nothing
        (tmp_path / "go").touch()
        assert session.end() == (0, "")
    assert json.loads((tmp_path / "results.json").read_text()) == [4, 4]


@needs_proc
def test_workers_that_are_asked_while_they_start_stop_in_order(tmp_path):
    numbers = "SIGTERM SIGUSR1"
    with Session(
        tmp_path, "step_freely", "stoppable", fresh=True, SIGNALS_AT_START=numbers
    ) as session:
        assert session.end() == (0, "")
    first, second = json.loads((tmp_path / "results.json").read_text())
    assert first == second


def test_an_interrupt_ends_workers_that_were_asked_to_stop_and_no_other_process(tmp_path):
    listener = signal_on(begun=signal.SIGTERM, asked=signal.SIGINT)
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            launch_two(engine_workers.never_stop, tmp_path, stoppable=True, listener=listener)
        assert other.is_alive()
    finally:
        other.kill()
        other.join()
    assert not any(lives(pid) for pid in noted_pids(tmp_path))


def test_a_worker_that_waits_to_stop_with_a_peer_that_dies_ends_with_it(tmp_path):
    listener = signal_on(begun=signal.SIGTERM)
    with pytest.raises(LaunchError) as error:
        launch_two(engine_workers.die_before_agreeing, tmp_path, stoppable=True, listener=listener)
    assert str(error.value) == "worker 1 died with signal 9 (SIGKILL)"
    assert not any(lives(pid) for pid in noted_pids(tmp_path))


def test_a_worker_that_alone_is_told_to_end_ends_within_a_collective(tmp_path):
    with pytest.raises(LaunchError) as error:
        launch_two(engine_workers.be_told_to_end, tmp_path, stoppable=True)
    assert str(error.value) == "worker 1 died with signal 15 (SIGTERM)"
    assert not any(lives(pid) for pid in noted_pids(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_outside_a_launch_a_preemption_is_an_error_like_any_other(number):
    before = signal.getsignal(number)
    message = f"stopped by {number.name} before the end"
    with pytest.raises(PreemptedError, match=message), preemption_is_an_error():
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert signal.getsignal(number) == before
