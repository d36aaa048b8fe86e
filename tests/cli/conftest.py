import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from alignctl.cli.app import app
from alignctl.config import StudyConfig
from alignctl.runs.sweep_folder import SweepDescription, SweepDirectory


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch):
    """What should have been refused fails at once instead of training for minutes."""
    monkeypatch.setattr("alignctl.engine.launch.launch", None)


@pytest.fixture
def call(monkeypatch):
    """A function of the words after `alignctl`: what came of them."""

    def invoke(*words: str):
        monkeypatch.setattr(sys, "argv", ["alignctl", *words])  # what a refusal tells to run
        return CliRunner().invoke(app, list(words))

    return invoke


@pytest.fixture
def snapshot() -> Callable[[], dict[str, bytes | None]]:
    """A function: every path here, with the content of files."""
    return lambda: {str(p): p.read_bytes() if p.is_file() else None for p in Path().rglob("*")}


@pytest.fixture
def plan_of(call, snapshot):
    """A function of a command's words: the plan that it prints under --dry-run."""

    def dry_run(*words: str) -> dict:
        before = snapshot()
        result = call(*words, "--dry-run")
        assert result.exit_code == 0, result.stderr
        assert snapshot() == before
        return yaml.safe_load(result.stdout)

    return dry_run


@pytest.fixture
def check_refused(call, snapshot):
    """A function of words: they are refused in one line on stderr that has these parts."""

    def check(words: list[str], *parts: str) -> None:
        before = snapshot()
        result = call(*words)
        assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        for part in parts:
            assert part in line
        assert result.stdout == ""
        assert snapshot() == before

    return check


@pytest.fixture(params=[[], ["--dry-run"]], ids=["real", "dry-run"])
def dry_or_not(request) -> list[str]:
    """What is refused is refused under --dry-run too."""
    return request.param


@pytest.fixture
def write_study(values):
    """A function of changed keys: the file of the smallest valid study with those changes."""

    def write(**changes: object) -> str:
        Path("mine.yaml").write_text(yaml.safe_dump({**values, **changes}))
        return "mine.yaml"

    return write


@pytest.fixture
def write_original(original):
    """A function of changed keys: the file of a config of the paper's code with those changes."""

    def write(**changes: object) -> str:
        Path("old.yaml").write_text(yaml.safe_dump({**original, **changes}, sort_keys=False))
        return "old.yaml"

    return write


@pytest.fixture
def make_sweep():
    """A function of a folder and a study: a sweep that has not begun."""

    def make(path: Path, study: StudyConfig) -> SweepDirectory:
        sweep = SweepDirectory(path)
        sweep.describe(SweepDescription("temperature", "temperature", (0.1,), study))
        return sweep

    return make


@pytest.fixture
def finished_run(make_run):
    """A finished run whose last losses are 0.5 for cl and 0.25 for the others."""
    import pandas as pd

    from alignctl.runs.table_files import write_parquet

    run = make_run(Path("runs/tiny"))
    names = ["cl", "nscl", "scl", "ce"]
    rows = [
        {"epoch": epoch, "step": step, "objective": name, "loss": loss, "learning_rate": 0.1}
        for name in names
        for epoch, losses in ((9, (8.0, 8.0)), (10, (0.75, 0.25) if name == "cl" else (0.25, 0.25)))
        for step, loss in enumerate(losses, start=1)
    ]
    write_parquet(run.training_table, pd.DataFrame(rows))
    return run
