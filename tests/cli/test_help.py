"""Help, version, and what is not imported for them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from alignctl import __version__
from alignctl.cli.app import app

TRAIN = ["pretrain"]
EVAL = ["eval-alignment"]
GAP = ["weight-gap"]
SWEEP = ["sweep", "temperature"]
REPORT = ["report", "to", "markdown"]
COMPARE = ["compare", "a.npy", "b.npz:key"]
VERIFY = ["verify"]


COMPUTING = [
    TRAIN, EVAL, [*EVAL, "--debiased", "--representation", "encoder.layer1"],
    [*EVAL, "--all-pairs", "--metric", "rsa correlation=kendall"], GAP, SWEEP, REPORT, COMPARE,
    VERIFY,
]  # fmt: skip


def commands(
    command: object = typer.main.get_command(app), path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every command and group, as the words that call it."""
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_has_help(call, words):
    result = call(*words, "--help")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "Usage: " in result.stdout
    assert call(*words, "-h").stdout == result.stdout


def test_the_commands_are_the_documented_ones():
    leaves = {" ".join(words) for words in commands()}
    leaves -= {"", "sweep", "report", "report to", "config"}
    assert leaves == {
        "pretrain",
        "eval-alignment",
        "compare",
        "weight-gap",
        "verify",
        "doctor",
        "sweep temperature",
        "report to markdown",
        "config list",
        "config show",
        "config validate",
        "config convert",
        "config schema",
    }


def test_the_version_is_that_of_the_package(call):
    assert call("--version").stdout.strip() == __version__


def test_python_dash_m_alignctl_is_the_same_program_and_imports_no_config_for_its_version():
    command = [sys.executable, "-X", "importtime", "-m", "alignctl", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == __version__
    assert "alignctl.cli.app" in done.stderr
    assert "alignctl.config" not in done.stderr


def test_help_config_and_dry_runs_import_no_torch(make_run, write_original):
    make_run(Path("runs/tiny"))
    old = write_original()
    calls = [
        *([*words, "--help"] for words in commands()),
        ["--version"],
        ["config", "list"],
        ["config", "show", "digits", "seed=3"],
        ["config", "validate", "digits"],
        ["config", "schema"],
        ["config", "convert", old],
        *([*words, "--config", old, "--dry-run"] for words in (TRAIN, SWEEP)),
        *([*words, "--dry-run"] for words in COMPUTING),
    ]
    code = """
import contextlib, io, json, sys
from alignctl.cli.app import main
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            assert not end.code, (words, end.code)
    assert "torch" not in sys.modules, words
"""
    command = [sys.executable, "-c", code, json.dumps(calls)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
