import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import engine_workers
import pytest
from torch.distributed.elastic.multiprocessing import SignalException

from alignctl.engine.launch import launch
from alignctl.engine.placement import ProcessPlan
from alignctl.errors import LaunchError, TrainingError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
TWO = ProcessPlan(2, 1, "cpu")
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").is_file(), reason="looks for processes under /proc"
)


def launch_two(worker, folder):
    return launch(worker, folder, plan=TWO, events_file=folder / "events.jsonl")


def lives(pid: int) -> bool:
    """Whether a process runs; a zombie, which nobody has asked about yet, does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.is_file() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def living_in_session(session: int) -> list[int]:
    """The processes that a child started with start_new_session left behind, with itself."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = stat.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # gone meanwhile
        if int(number) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until_gone(session: int) -> None:
    deadline = time.monotonic() + 60
    while living_in_session(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert living_in_session(session) == []


def start_launch(folder, **environment):
    """A process of its own session that launches two workers, which wait."""
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, engine_workers.__file__, str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
        start_new_session=True,
    )


@pytest.fixture
def waiting_launch(tmp_path):
    """A process that has launched two workers, which have begun."""
    parent = start_launch(tmp_path)
    files = [tmp_path / f"{rank}.pid" for rank in (0, 1)]
    while not all(path.exists() for path in files):
        assert parent.poll() is None, parent.stderr.read()
        time.sleep(0.05)
    pids = [int(path.read_text()) for path in files]
    yield parent, pids
    parent.kill()
    parent.communicate()
    for pid in pids:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)


def test_results_come_in_the_order_of_ranks(described):
    results, _ = described
    size = len(results)
    assert [result["rank"] for result in results] == list(range(size))
    assert len({result["pid"] for result in results} | {os.getpid()}) == size + 1
    for result in results:
        assert (result["world_size"], result["payload"], result["device"]) == (
            size, "payload", "cpu",
        )  # fmt: skip


def test_each_process_uses_the_threads_of_the_plan(described):
    results, _ = described
    for result in results:
        assert result["threads"] == result["torch_threads"] == 3
        assert set(result["environment"].values()) == {"3"}


def test_an_error_of_ours_arrives_as_itself_and_ends_the_other_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    environment, handlers = dict(os.environ), [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(TrainingError) as error:
        launch_two(engine_workers.refuse, tmp_path)
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


def test_a_killed_worker_is_reported_with_its_signal(tmp_path):
    with pytest.raises(LaunchError) as error:
        launch_two(engine_workers.die, tmp_path)
    assert str(error.value).splitlines() == ["worker 1 died with signal 9 (SIGKILL)"]
    assert not any(lives(int((tmp_path / f"{rank}.pid").read_text())) for rank in (0, 1))


def test_a_launch_leaves_handlers_and_environment_as_they_were(monkeypatch, tmp_path):
    def refuse(config, entrypoint):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        return lambda job: {0: "zero", 1: "one"}

    monkeypatch.setattr("alignctl.engine.launch.elastic_launch", refuse)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    environment, handlers = dict(os.environ), [signal.getsignal(number) for number in SIGNALS]
    assert launch_two(engine_workers.describe, tmp_path) == ["zero", "one"]
    assert dict(os.environ) == environment
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


@pytest.mark.parametrize(
    ("number", "outcome", "code"),
    [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 128 + signal.SIGTERM)],
)
def test_a_signal_is_raised_as_python_does(monkeypatch, tmp_path, number, outcome, code):
    def end(job):
        raise SignalException("the launcher's own", number)

    monkeypatch.setattr("alignctl.engine.launch.elastic_launch", lambda config, entrypoint: end)
    with pytest.raises(outcome) as raised:
        launch_two(engine_workers.describe, tmp_path)
    assert getattr(raised.value, "code", None) == code


@needs_proc
def test_an_interrupt_ends_parent_and_workers_without_a_word(waiting_launch):
    parent, pids = waiting_launch
    assert set(pids) < set(living_in_session(parent.pid))
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    _, errors = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert errors == ""
    assert not any(lives(pid) for pid in pids)
    wait_until_gone(parent.pid)


@needs_proc
def test_an_interrupt_while_workers_start_ends_all_without_a_word(tmp_path):
    parent = start_launch(tmp_path, INTERRUPT_WORKERS_AT_START="1")
    _, errors = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert errors == ""
    wait_until_gone(parent.pid)
    assert not list(tmp_path.glob("*.pid")), "no worker came to its work"


@needs_proc
def test_workers_do_not_outlive_a_killed_parent(waiting_launch):
    parent, pids = waiting_launch
    assert all(lives(pid) for pid in pids)
    parent.kill()
    parent.communicate(timeout=60)
    wait_until_gone(parent.pid)
