"""The words of commands on checkpoints of the original code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alignctl.cli.command_classes import spread

EVAL = ["eval-alignment", "--config", "digits", "--checkpoints", "theirs", "--output", "out"]
GAP = ["weight-gap", "--checkpoints", "theirs", "--output", "out"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("weight-gap", "weight-gap"),
        ("--compare nscl", "--compare nscl"),
        ("--compare cl nscl scl ce", "--compare cl --compare nscl --compare scl --compare ce"),
        ("--compare dcl ce runs/x", "--compare dcl --compare ce runs/x"),
        ("--compare nscl runs/x scl", "--compare nscl runs/x scl"),
        ("runs/x --compare nscl scl --json", "runs/x --compare nscl --compare scl --json"),
        ("--compare=nscl scl x", "--compare=nscl --compare scl x"),
        ("--compare nscl --compare scl ce", "--compare nscl --compare scl --compare ce"),
        ("--compare nsc scl", "--compare nsc --compare scl"),
        ("--reference scl ce", "--reference scl ce"),
        ("--compare scl --reference ce nscl", "--compare scl --reference ce nscl"),
        ("--compare scl -- ce", "--compare scl -- ce"),
        ("-- --compare scl ce", "-- --compare scl ce"),
        ("--compare", "--compare"),
    ],
)
def test_the_option_takes_the_names_of_objectives_that_follow_it(words, expected):
    assert list(spread(words.split())) == expected.split()


@pytest.mark.parametrize("command", ["weight-gap", "eval-alignment"])
def test_a_run_may_stand_before_or_behind_the_objectives(plan_of, make_run, command):
    for name in ("tiny", "other"):
        make_run(Path("runs") / name)
    objectives = {"weight-gap": ["nscl", "ce"], "eval-alignment": None}[command]
    for words in (["--compare", "cl", "nscl", "ce", "other"],
                  ["other", "--compare", "nscl", "ce"],
                  ["--compare", "nscl", "--compare", "ce", "other"]):  # fmt: skip
        plan = plan_of(command, *words)
        assert plan["run"] == "runs/other"
        assert plan.get("objectives") == objectives
        assert plan.get("pairs") == (None if objectives else ["cl - nscl", "cl - ce"])


def test_a_run_has_no_config_to_be_given(check_refused, make_run, dry_or_not):
    make_run(Path("runs/tiny"))
    words = ["eval-alignment", "tiny", "--config", "digits", *dry_or_not]
    check_refused(words, "--config: goes with --checkpoints; a run has a config of its own")


def test_in_a_run_of_our_own_dcl_is_dcl(check_refused, plan_of, make_run, make_study):
    make_run(Path("runs/tiny"))
    for command in ("weight-gap", "eval-alignment"):
        check_refused([command, "--compare", "dcl"], "--compare: 'dcl' is not comparable here; did")
    make_run(Path("runs/tiny"), make_study(objectives=["cl", "dcl"]))
    assert plan_of("weight-gap")["objectives"] == ["dcl"]


@pytest.fixture
def theirs():
    """Empty files where snapshots would be."""
    for name in ("dcl", "nscl", "scl", "ce"):
        for epoch in (0, 10):
            path = Path("theirs") / name / f"snapshot_{epoch}.pth"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def test_a_plan_names_the_checkpoints_and_where_tables_go(plan_of, theirs):
    plan = plan_of(*EVAL, "--every", "10", "dataset.classes=3")
    assert plan["run"] == "out"
    assert plan["checkpoints"] == str(Path("theirs").absolute())
    assert plan["pairs"] == ["cl - nscl", "cl - scl", "cl - ce"]
    assert (plan["epochs"], plan["tables"]) == ([0, 10], "out/alignment")
    plan = plan_of(*GAP, "--compare", "nscl", "ce")
    assert plan == {
        "run": "out",
        "checkpoints": str(Path("theirs").absolute()),
        "reference": "cl",
        "objectives": ["nscl", "ce"],
        "processes": 1,
        "tables": "out/weight_gap",
    }


def test_plans_import_no_torch(theirs):
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
    calls = [[*EVAL, "--dry-run"], [*GAP, "--compare", "nscl", "scl", "--dry-run"]]
    command = [sys.executable, "-c", code, json.dumps(calls)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
