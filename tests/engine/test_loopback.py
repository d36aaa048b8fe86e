import os
import shutil
import subprocess
import sys

import pytest
from sessions import TWO, launch_two

from alignctl.engine import loopback
from alignctl.engine.launch import launch
from alignctl.errors import LaunchError

UNREACHABLE = (
    "processes cannot meet: 127.0.0.1 cannot be reached (Network is unreachable); "
    "is the loopback device up (`ip link set lo up`)?"
)
NO_SEMAPHORES = (
    "processes cannot be started: no semaphore can be made ({reason}); "
    "on Linux /dev/shm has to be writable and not full"
)
TEST = "from alignctl.engine.selftest import all_reduce_between_two as test; print(test('cpu'))"


def may_unshare():
    """Whether this user may make namespaces, and mount within them, as root in a container may."""
    if shutil.which("unshare") is None:
        return False
    words = ["unshare", "-n", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def told_in(script):
    """What the test of two processes finds after a shell script in a namespace of its own."""
    command = ["unshare", "-n", "-m", "sh", "-c", f'{script} && exec "$0" -c "$1"']
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [*command, sys.executable, TEST],
        check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not may_unshare(), reason="may not make namespaces")
@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("true", UNREACHABLE),
        (
            "ip link set lo up && mount -t tmpfs -o ro tmpfs /dev/shm",
            NO_SEMAPHORES.format(reason="Read-only file system"),
        ),
        (
            "ip link set lo up && mount -t tmpfs -o size=4k tmpfs /dev/shm && echo x > /dev/shm/x",
            NO_SEMAPHORES.format(reason="No space left on device"),
        ),
        (
            "ip link set lo up && echo 10.1.2.3 other > {file} && mount --bind {file} /etc/hosts",
            None,
        ),
        ("ip link set lo up && mount -t tmpfs -o size=64k tmpfs /dev/shm", None),
    ],
    ids=["no network", "read-only /dev/shm", "full /dev/shm", "no names", "small /dev/shm"],
)
def test_processes_meet_wherever_they_can_and_it_is_told_where_not(tmp_path, script, error):
    if "ip link" in script and shutil.which("ip") is None:
        pytest.skip("needs the command `ip`")
    told = told_in(script.format(file=tmp_path / "hosts"))
    assert f"error={error!r}" in told


@pytest.mark.parametrize("failure", [OSError(101, "Network is unreachable"), TimeoutError("late")])
def test_an_address_that_does_not_answer_is_one_line_and_starts_nothing(
    monkeypatch, tmp_path, failure
):
    def connect(*_, **__):
        raise failure

    monkeypatch.setattr(loopback.socket, "create_connection", connect)
    monkeypatch.setattr("alignctl.engine.launch.elastic_launch", None)
    with pytest.raises(LaunchError) as error:
        launch(len, "", plan=TWO, events_file=tmp_path / "events.jsonl")
    reason = failure.strerror or "late"
    assert str(error.value) == UNREACHABLE.replace("Network is unreachable", reason)


@pytest.mark.parametrize(
    ("names", "variables"),
    [
        (["eth0", "lo"], {"GLOO_SOCKET_IFNAME": "lo"}),
        (["lo0", "en0"], {"GLOO_SOCKET_IFNAME": "lo0"}),
        (["eth0"], {}),
    ],
)
def test_gloo_is_told_the_loopback_device_by_its_name(monkeypatch, names, variables):
    monkeypatch.setattr(loopback.socket, "if_nameindex", lambda: list(enumerate(names)))
    assert loopback.worker_environment() == variables


def test_what_torch_cannot_start_is_one_line(monkeypatch, tmp_path):
    def start(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("alignctl.engine.launch.elastic_launch", lambda *_: start)
    with pytest.raises(LaunchError) as error:
        launch_two(len, tmp_path)
    message = "processes cannot be started: [Errno 11] Resource temporarily unavailable"
    assert str(error.value) == message
