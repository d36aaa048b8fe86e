"""Exit codes and error lines."""

import json
import subprocess
import sys
from pathlib import Path

import children
import numpy as np
import pytest

from alignctl.config.metric_configs import ORIGINAL_CKA
from alignctl.errors import AlignctlError, ConfigError, LaunchError, PreemptedError


def test_several_wrong_keys_are_told_at_once(call, write_study):
    result = call("config", "validate", write_study(seed="x", temprature=1))
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert first.startswith("error: mine.yaml: seed: ")
    assert second.startswith("temprature: unknown key")


def test_a_damaged_run_is_a_failure_and_not_a_wrong_usage(call, finished_run):
    finished_run.training_table.write_bytes(b"PAR1")
    result = call("report", "to", "markdown")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: runs/tiny/training.parquet: cannot be read: ")


def test_python_dash_m_compares_two_files_and_fails_where_there_is_no_score():
    stream = np.random.default_rng(0)
    matrix = stream.normal(size=(12, 3))
    np.save("a.npy", matrix)
    np.save("b.npy", matrix @ stream.normal(size=(3, 2)))
    np.save("c.npy", matrix * (np.arange(12) != 4)[:, None])
    command = [sys.executable, "-m", "alignctl", "compare", "a.npy", "b.npy", "--metric", "cka"]
    done = subprocess.run([*command, "--json"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (score,) = json.loads(done.stdout)["scores"]
    assert score["metric"] == ORIGINAL_CKA
    assert 0 < score["value"] < 1
    failed = children.run(Path.cwd(), "compare", "a.npy", "c.npy", "--metric", "rsa")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "error: c.npy, row 4: all zeros, so it has no cosine\n"


def test_verbose_shows_where_an_error_came_from(call):
    result = call("pretrain", "missing.yaml", "-v")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: missing.yaml: no such file"


@pytest.mark.parametrize(
    ("error", "code"),
    [(AlignctlError, 1), (LaunchError, 1), (ConfigError, 2), (PreemptedError, 75)],
)
def test_each_kind_of_error_has_its_exit_code(call, monkeypatch, error, code):
    def fail(*_, **__):
        raise error("why")

    monkeypatch.setattr("alignctl.config.load.load_study", fail)
    result = call("config", "show", "digits")
    assert (result.exit_code, result.stderr) == (code, "error: why\n")


def test_an_interruption_is_exit_code_130(call, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("alignctl.config.load.load_study", interrupt)
    result = call("config", "show", "digits")
    assert result.exit_code == 130
    assert result.stderr == "error: interrupted\n"


def test_brackets_in_an_error_are_shown_as_they_are(call):
    result = call("config", "show", "[bold]x[/bold]")
    assert "[bold]x[/bold]" in result.stderr


def test_long_errors_are_not_wrapped(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    result = call("config", "show", "x" * 200 + ".yaml")
    assert result.stderr == f"error: {'x' * 200}.yaml: no such file\n"
