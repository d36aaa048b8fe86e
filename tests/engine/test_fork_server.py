import os
import signal
import sys
import tempfile
import threading
from multiprocessing import forkserver
from pathlib import Path

import engine_workers
import pytest
from sessions import Session, needs_proc

from alignctl.engine import fork_server
from alignctl.engine.launch import launch
from alignctl.engine.placement import ProcessPlan

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned")
NAMES = ["ALIGNCTL_TEST", "OMP_NUM_THREADS", "PYTHONSAFEPATH"]


def surroundings(folder, *, threads=1):
    """The surroundings of one worker."""
    plan = ProcessPlan(1, threads, "cpu")
    events_file = folder / "events.jsonl"
    return launch(engine_workers.surroundings, NAMES, plan=plan, events_file=events_file)[0]


@pytest.fixture
def server(tmp_path):
    """The process id of the server that tests of launches share."""
    return surroundings(tmp_path)["parent"]


def test_workers_of_several_launches_come_from_one_server_with_one_thread(server, tmp_path):
    assert server not in (os.getpid(), os.getppid())
    assert surroundings(tmp_path)["parent"] == server
    threads = [path.read_text().strip() for path in Path(f"/proc/{server}/task").glob("*/comm")]
    assert len([name for name in threads if name not in fork_server._FORK_AWARE]) == 1


def test_workers_have_the_variables_of_their_own_launch(server, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGNCTL_TEST", "größer")
    found = surroundings(tmp_path)
    assert found["parent"] == server
    assert found["variables"] == {
        "ALIGNCTL_TEST": "größer", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": None,
    }  # fmt: skip
    monkeypatch.delenv("ALIGNCTL_TEST")
    assert surroundings(tmp_path)["variables"]["ALIGNCTL_TEST"] is None


def test_there_is_another_server_where_one_was_killed(server, tmp_path):
    os.kill(server, signal.SIGKILL)
    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
    assert surroundings(tmp_path)["parent"] not in (server, os.getpid())


def test_there_is_another_server_where_libraries_would_have_read_other_variables(
    server, tmp_path, monkeypatch
):
    for name in ("types.py", "torch.py"):  # a server does not import from the current folder
        (tmp_path / name).write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    found = surroundings(tmp_path, threads=2)
    assert found["parent"] not in (server, os.getpid())
    assert found["variables"]["OMP_NUM_THREADS"] == "2"


@needs_proc
def test_workers_of_a_command_with_one_thread_come_from_a_copy_of_it():
    options = {"fresh": True, "OPENBLAS_NUM_THREADS": "2"}
    with (  # whose path is short enough for a socket
        tempfile.TemporaryDirectory() as folder,
        Session(Path(folder), "tell_surroundings", **options) as session,
    ):
        assert session.end() == (0, "")
        first, second = session.results()
    assert first == second
    assert first["parent"] != session.pid
    assert "tell_surroundings" in first["words"]
    assert (first["threads"], first["variable"], first["pools"]) == (1, "1", [1])
    # as these tests have it, which under nohup ignore SIGHUP
    assert first["handlers"] == [signal.SIG_DFL] * 2 + [signal.getsignal(signal.SIGHUP)]
    assert (first["blocked"], first["holds"]) == ([], False)


@needs_proc
def test_a_command_with_other_threads_is_not_copied():
    other = threading.Event()
    thread = threading.Thread(target=other.wait)
    thread.start()
    before = fork_server._pid()
    try:
        assert not fork_server._fork()
    finally:
        other.set()
        thread.join()
    assert fork_server._pid() == before


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["alignctl"], True),
        (["alignctl", "jemalloc_bg_thd"], True),
        (["alignctl", "alignctl"], False),
    ],
)
def test_a_thread_of_pyarrow_that_knows_of_forks_is_no_other_thread(monkeypatch, names, expected):
    monkeypatch.setattr(fork_server, "_thread_names", lambda: names)
    assert fork_server._has_one_thread() == expected


def test_a_server_that_others_started_is_left_to_them(monkeypatch):
    monkeypatch.setattr(fork_server, "_pid", os.getpid)
    assert fork_server.start_server("json", "cpu") == fork_server.Started("spawn", {})
    fork_server.stop_server()  # or this process would be killed


def test_workers_for_gpus_are_spawned():
    assert fork_server.start_server("json", "cuda") == fork_server.Started("spawn", {})


def test_workers_are_spawned_where_no_server_can_be_started(tmp_path, monkeypatch):
    def ensure_running():
        raise OSError("AF_UNIX path too long")

    fork_server.stop_server()
    mask, environment = signal.pthread_sigmask(signal.SIG_BLOCK, []), dict(os.environ)
    monkeypatch.setattr(forkserver, "ensure_running", ensure_running)
    assert fork_server.start_server("json", "cpu") == fork_server.Started("spawn", {})
    assert surroundings(tmp_path)["parent"] == os.getpid()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    assert dict(os.environ) == environment
