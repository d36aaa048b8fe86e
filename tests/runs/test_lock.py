import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from alignctl.errors import CheckpointError
from alignctl.runs import RunDirectory
from alignctl.runs.lock import run_lock

HOLD = """
import sys
from pathlib import Path
from alignctl.runs.lock import run_lock
with run_lock(Path(sys.argv[1]), "pretrain"):
    print("held", flush=True)
    sys.stdin.read()
"""
TAKE_TURNS = """
import sys
from pathlib import Path
from alignctl.errors import CheckpointError
from alignctl.runs.lock import run_lock
folder, turns = Path(sys.argv[1]), 0
while turns < 200:
    try:
        with run_lock(folder, "pretrain"):
            (folder / "alone").mkdir()  # fails where another process holds the lock too
            (folder / "alone").rmdir()
            turns += 1
    except CheckpointError as error:
        assert "in use" in str(error), error
"""


@contextmanager
def start(script, folder):
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def held_by_another(folder):
    with start(HOLD, folder) as process:
        assert process.stdout.readline() == "held\n"
        yield process


def refusal(folder, purpose="pretrain"):
    with pytest.raises(CheckpointError) as error, run_lock(folder, purpose):
        pass
    return str(error.value)


def test_a_second_process_is_told_who_holds_the_run(tmp_path):
    with held_by_another(tmp_path) as process:
        match = re.fullmatch(
            rf"{tmp_path}: in use by another `alignctl pretrain` "
            rf"\(process {process.pid} on {re.escape(socket.gethostname())}, since (.+)\)",
            refusal(tmp_path),
        )
        assert match
        assert datetime.fromisoformat(match[1]).tzinfo is not None
        process.communicate("")
        with run_lock(tmp_path, "pretrain"):
            pass


def test_a_run_can_be_held_for_two_purposes_at_once(tmp_path):
    with held_by_another(tmp_path), run_lock(tmp_path, "weight-gap"):
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {".pretrain.lock", ".weight-gap.lock"}
    assert RunDirectory(tmp_path).is_free


def test_a_killed_holder_leaves_a_lock_that_the_next_one_takes_over(tmp_path):
    with held_by_another(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (file,) = tmp_path.iterdir()
    with run_lock(tmp_path, "pretrain"):
        assert json.loads(file.read_text())["pid"] == os.getpid()
        assert f"process {os.getpid()} on" in refusal(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_one_process_at_a_time_holds_a_run_though_each_removes_lock_and_folder(tmp_path):
    folder = tmp_path / "runs" / "a"
    with start(TAKE_TURNS, folder) as first, start(TAKE_TURNS, folder) as second:
        assert (first.communicate(timeout=120)[1], first.returncode) == ("", 0)
        assert (second.communicate(timeout=120)[1], second.returncode) == ("", 0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_child_process_does_not_keep_the_lock(tmp_path):
    with run_lock(tmp_path, "pretrain"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with run_lock(tmp_path, "pretrain"):
            pass
    finally:
        child.communicate()


def test_folders_made_for_the_lock_go_with_it_where_nothing_came_into_them(tmp_path):
    folder = tmp_path / "runs" / "a"
    with pytest.raises(ZeroDivisionError), run_lock(folder, "pretrain"):
        assert [path.name for path in folder.iterdir()] == [".pretrain.lock"]
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with run_lock(folder, "pretrain"):
        (folder / "config.yaml").touch()
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]


def test_a_folder_that_was_there_stays(tmp_path):
    (tmp_path / "runs").mkdir()
    with run_lock(tmp_path / "runs" / "a", "pretrain"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    with run_lock(tmp_path / "runs", "pretrain"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("name", ["", "/a", "/a/b"])
def test_a_path_that_cannot_be_a_folder_is_named_in_one_line(tmp_path, name):
    file = tmp_path / "file"
    file.touch()
    folder = Path(f"{file}{name}")
    assert refusal(folder) == f"{folder}: cannot be written: Not a directory"


def test_a_link_to_nowhere_is_named_in_one_line(tmp_path):
    folder = tmp_path / "link"
    folder.symlink_to(tmp_path / "gone")
    assert refusal(folder) == f"{folder}: cannot be written: No such file or directory"


def test_a_disk_that_fills_up_is_named_in_one_line_and_nothing_stays(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    folder = tmp_path / "runs" / "a"
    assert refusal(folder) == f"{folder}: cannot be written: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_file_system_is_named_in_one_line_and_nothing_stays(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    folder = tmp_path / "runs" / "a"
    assert refusal(folder) == f"{folder}: cannot be written: Read-only file system"
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named_in_one_line(tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert refusal(tmp_path) == f"{tmp_path}: cannot be written: Permission denied"
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_used_without_protection(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with run_lock(tmp_path, "pretrain"), run_lock(tmp_path, "pretrain"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_has_not_written_who_it_is_holds_the_run_all_the_same(tmp_path):
    path = tmp_path / ".pretrain.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert refusal(tmp_path) == f"{tmp_path}: in use by another `alignctl pretrain`"
