"""Every command does its work whatever is behind its standard output and error."""

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from alignctl.cli.app import main
from alignctl.config.load import to_yaml
from alignctl.engine.selftest import SelfTest

COMMANDS = {
    "help": ["--help"],
    "help of a command": ["eval-alignment", "--help"],
    "version": ["--version"],
    "wrong usage": ["pretrain", "--no-such-option"],
    "error": ["pretrain", "missing-é.yaml"],
    "list": ["config", "list"],
    "show": ["config", "show", "学习.yaml"],
    "validate": ["config", "validate", "学习.yaml"],
    "convert": ["config", "convert", "old.yaml"],
    "schema": ["config", "schema"],
    "dry run": ["pretrain", "学习.yaml", "--dry-run"],
    "pretrain": ["pretrain", "--resume", "--run-dir", "runs/é"],
    "pretrain anew": ["pretrain", "学习.yaml", "--run-dir", "runs/新"],
    "eval": ["eval-alignment", "é", "--nproc", "1"],
    "eval json": ["eval-alignment", "é", "--nproc", "1", "--json"],
    "compare": ["compare", "a.npy", "é.npz:特征", "--metric", "cka"],
    "gap": ["weight-gap", "é"],
    "verify": ["verify", "é"],
    "report": ["report", "to", "markdown", "é"],
    "sweep": ["sweep", "temperature", "学习.yaml", "--values", "0.5", "--run-dir", "runs/扫"],
    "doctor": ["doctor"],
}
EVERY_COMMAND = pytest.mark.parametrize("name", list(COMMANDS))
REFUSED = ("wrong usage", "error")


@pytest.fixture(scope="module")
def prepared(small_study, one_process, tmp_path_factory):
    """A folder with studies, features, and a run and a sweep that have been evaluated."""
    folder = tmp_path_factory.mktemp("terminals")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("alignctl.engine.launch.launch", _in_this_process(one_process))
        changes = ("objectives=[cl, nscl]", "training.epochs=1")
        Path("学习.yaml").write_text(to_yaml(small_study(*changes)))
        rows = np.random.default_rng(0).normal(size=(9, 3))
        np.save("a.npy", rows)
        np.savez("é.npz", 特征=rows)
        for words in (["pretrain", "学习.yaml", "--run-dir", "runs/é"], COMMANDS["sweep"],
                      COMMANDS["eval"], COMMANDS["gap"]):  # fmt: skip
            patch.setattr(sys, "argv", ["alignctl", *words])
            with pytest.raises(SystemExit, match=r"^0$"):
                main()
    return folder


_ALONE = SelfTest("gloo", processes=2, seconds=0.0, error=None)


def _in_this_process(one_process):
    def launch(worker, payload, *, events_file, **_):
        return [worker(replace(one_process, events_file=events_file.absolute()), payload)]

    return launch


@pytest.fixture
def end(prepared, original, one_process, tmp_path, monkeypatch):
    """A function of a command's name, output and error: the exit code, in a copy of the folder."""
    folder = tmp_path / "here"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("alignctl.engine.launch.launch", _in_this_process(one_process))
    monkeypatch.setattr("alignctl.commands.doctor.all_reduce_between_two", lambda device: _ALONE)
    Path("old.yaml").write_text(yaml.safe_dump(original))

    def run(name, stdout, stderr):
        monkeypatch.setattr(sys, "argv", ["alignctl", *COMMANDS[name]])
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stdout)
            patch.setattr(sys, "stderr", stderr)
            with pytest.raises(SystemExit) as ended:
                main()
            assert (sys.stdout, sys.stderr) == (stdout, stderr)
        return ended.value.code or 0

    return run


def text_file(path, encoding):
    return path.open("w", encoding=encoding)


@pytest.fixture
def files(tmp_path):
    """A function of an encoding: two open files, and a function that closes and reads them."""
    opened = []

    def make(encoding):
        opened.extend(text_file(tmp_path / name, encoding) for name in ("out", "err"))
        return opened

    def read():
        for file in opened:
            file.close()
        return [Path(file.name).read_text(encoding=file.encoding) for file in opened]

    yield make, read
    for file in opened:
        file.close()


@EVERY_COMMAND
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_of_few_letters_takes_every_line(end, files, name, encoding, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")  # a terminal as narrow as they come
    monkeypatch.setenv("TERM", "dumb")
    make, read = files
    code = end(name, *make(encoding))
    out, err = read()
    assert code == (2 if name in REFUSED else 0), err
    assert (out or name in REFUSED) and "Traceback" not in err
    if name == "error":
        letter = r"\xe9" if encoding == "ascii" else "é"
        assert err == f"error: missing-{letter}.yaml: no such file\n"
    if name == "eval json":
        assert json.loads(out)["run"] == "runs/é"
    if name == "gap":
        assert "degrees" in out


@pytest.mark.parametrize("name", ["pretrain anew", "gap", "verify"])
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_live_bars_fit_a_narrow_terminal_of_few_letters(end, files, name, term, monkeypatch):
    for key, value in {"FORCE_COLOR": "1", "COLUMNS": "20", "TERM": term}.items():
        monkeypatch.setenv(key, value)
    make, read = files
    code = end(name, *make("ascii"))
    out, err = read()
    assert (code, err) == (0, "")
    assert ("\x1b[" in out) == (term == "xterm")


@EVERY_COMMAND
def test_a_full_disk_behind_standard_output_is_one_line(end, files, name):
    make, read = files
    with Path("/dev/full").open("w") as full:
        code = end(name, full, make("utf-8")[1])
    err = read()[1]
    if name in REFUSED:
        assert code == 2
        return
    assert code == 1
    *notes, line = err.splitlines()
    assert line == "error: standard output: cannot be written: No space left on device"
    assert not notes or name == "convert"  # it tells what became of the original's keys


@EVERY_COMMAND
def test_a_full_disk_behind_standard_error_changes_nothing_else(end, files, name):
    make, read = files
    with Path("/dev/full").open("w") as full:
        code = end(name, make("utf-8")[0], full)
    out = read()[0]
    assert code == (2 if name in REFUSED else 0)
    assert bool(out) == (name not in REFUSED)


@EVERY_COMMAND
def test_a_closed_pipe_ends_quietly(end, files, name):
    reader, writer = os.pipe()
    os.close(reader)
    make, read = files
    with os.fdopen(writer, "w") as pipe:
        code = end(name, pipe, make("utf-8")[1])
    err = read()[1]
    assert code == (2 if name in REFUSED else 0)
    assert name in (*REFUSED, "convert") or err == ""


def test_what_a_command_writes_is_whole_though_its_output_is_lost(end, files):
    make, _ = files
    with Path("/dev/full").open("w") as full:
        assert end("pretrain anew", full, make("utf-8")[1]) == 1
        assert end("report", full, sys.stderr) == 1
    assert json.loads(Path("runs/新/manifest.json").read_text())["status"] == "finished"
    assert "# é" in Path("runs/é/report/report.md").read_text(encoding="utf-8")


def test_a_stream_without_a_descriptor_is_left_as_it_is(end):
    out, err = io.StringIO(), io.StringIO()
    assert end("version", out, err) == 0
    assert out.getvalue()


def test_training_and_its_workers_run_with_all_streams_closed(prepared, tmp_path):
    command = [sys.executable, "-m", "alignctl", "pretrain", str(prepared / "学习.yaml")]
    script = '"$@" --run-dir r --nproc 1 --json <&- >&- 2>&-'
    done = subprocess.run(["bash", "-c", script, "bash", *command], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert json.loads((tmp_path / "r/manifest.json").read_text())["status"] == "finished"
