import json
from pathlib import Path

import children
import pytest

from alignctl.commands import doctor
from alignctl.commands.doctor import Devices, Gpu
from alignctl.engine.selftest import SelfTest


@pytest.fixture
def quick(call, monkeypatch):
    """A function of the words after `alignctl doctor`, where two processes work together."""
    test = SelfTest("gloo", 2, 1.5, None)
    monkeypatch.setattr(doctor, "all_reduce_between_two", lambda device: test)
    return lambda *words: call("doctor", *words)


def test_the_real_command_finds_all_parts_and_leaves_nothing_behind(tmp_path):
    done = children.run(tmp_path, "doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["ok"]
    assert {"python", "alignctl", "torch", "pyarrow"} <= set(found["versions"])
    assert found["machine"]["usable_cores"] >= 1
    assert found["backends"]["gloo"]
    test = found["all_reduce"][0]
    assert (test["backend"], test["processes"], test["error"]) == ("gloo", 2, None)
    assert found["disk"]["folder"] == "."
    assert list(tmp_path.iterdir()) == []


def test_one_table_has_every_part(quick):
    ended = quick()
    assert (ended.code, ended.stderr) == (0, "")
    for part in ("versions", "machine", "devices", "back ends", "all-reduce", "disk"):
        assert sum(line.startswith(f" {part} ") for line in ended.stdout.splitlines()) == 1
    assert "2 processes agree, 1.5 s with their start" in ended.stdout
    assert str(Path.cwd()) not in ended.stdout


def test_processes_that_cannot_work_together_are_a_failure(quick, monkeypatch):
    test = SelfTest("gloo", 2, 1.5, "no route to [localhost]")
    monkeypatch.setattr(doctor, "all_reduce_between_two", lambda device: test)
    ended = quick()
    assert ended.code == 1
    assert "failed: no route to [localhost]" in ended.stdout
    message = "two processes cannot work together (gloo): no route to [localhost]"
    assert ended.stderr == f"error: {message}\n"
    ended = quick("--json")
    assert (ended.code, json.loads(ended.stdout)["ok"]) == (1, False)


def test_a_folder_that_cannot_be_written_is_a_failure(quick):
    Path("runs").touch()
    ended = quick()
    assert ended.code == 1
    assert ended.stderr == "error: runs: cannot be written: Not a directory\n"
    assert "cannot be written: Not a directory" in ended.stdout


def test_the_folder_of_runs_is_looked_at_where_there_is_one(quick):
    Path("runs").mkdir()
    assert json.loads(quick("--json").stdout)["disk"]["folder"] == "runs"
    assert list(Path("runs").iterdir()) == []


def test_gpus_are_named_and_two_of_them_tested(quick, monkeypatch):
    gpus = (Gpu("H100", 79.2, True), Gpu("T4", 15.0, False))
    monkeypatch.setattr(doctor, "_devices", lambda: Devices("12.8", gpus, None))
    tested = []

    def test(device):
        tested.append(device)
        return SelfTest("nccl" if device == "cuda" else "gloo", 2, 1.5, None)

    monkeypatch.setattr(doctor, "all_reduce_between_two", test)
    ended = quick()
    assert ended.code == 0
    assert tested == ["cpu", "cuda"]
    assert "H100, 79.2 GiB, with bfloat16" in ended.stdout
    assert "T4, 15.0 GiB, without bfloat16" in ended.stdout


def test_what_torch_warns_of_a_driver_is_shown(quick, monkeypatch):
    devices = Devices("13.0", (), "CUDA initialization: the driver is too old")
    monkeypatch.setattr(doctor, "_devices", lambda: devices)
    assert "no GPU: CUDA initialization: the driver is too old" in quick().stdout
