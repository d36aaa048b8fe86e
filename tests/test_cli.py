"""Everything on the command line that trains nothing."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
import yaml
from typer.testing import CliRunner

from alignctl import __version__
from alignctl.cli import app
from alignctl.config import StudyConfig
from alignctl.config.load import load_study, study_names
from alignctl.config.metrics import DEBIASED_CKA, ORIGINAL_CKA, ORIGINAL_RSA, USUAL_METRICS
from alignctl.runs.directory import checkpoint_file
from alignctl.runs.sweep import SweepDescription, SweepDirectory
from alignctl.runs.tables import write_parquet

TRAIN, EVAL, GAP = ["pretrain"], ["eval-alignment"], ["weight-gap"]
SWEEP, REPORT = ["sweep", "temperature"], ["report", "to", "markdown"]
COMPARE = ["compare", "a.npy", "b.npz:key"]
COMPUTING = [
    TRAIN, EVAL, [*EVAL, "--debiased", "--representation", "encoder.layer1"],
    [*EVAL, "--all-pairs", "--metric", "rsa correlation=kendall"], GAP, SWEEP, REPORT, COMPARE,
]  # fmt: skip


def commands(
    command: object = typer.main.get_command(app), path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every command and group, as the words that call it."""
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


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
        monkeypatch.setattr(sys, "argv", ["alignctl", *words])  # -v is looked for there
        return CliRunner().invoke(app, list(words))

    return invoke


@pytest.fixture
def plan_of(call):
    """A function of a command's words: the plan that it prints under --dry-run."""

    def dry_run(*words: str) -> dict:
        before = snapshot()
        result = call(*words, "--dry-run")
        assert result.exit_code == 0, result.stderr
        assert snapshot() == before
        return yaml.safe_load(result.stdout)

    return dry_run


def snapshot() -> dict[str, bytes | None]:
    """Every path here, with the content of files."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in Path().rglob("*")}


@pytest.fixture
def check_refused(call):
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


@pytest.fixture
def dry_or_not(request) -> list[str]:
    return ["--dry-run"] if request.param else []


EITHER_WAY = pytest.mark.parametrize(
    "dry_or_not", [False, True], ids=["real", "dry-run"], indirect=True
)


def write_study(values: dict, **changes: object) -> str:
    Path("mine.yaml").write_text(yaml.safe_dump({**values, **changes}))
    return "mine.yaml"


# --- help, version, imports


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
        "sweep temperature",
        "report to markdown",
        "config list",
        "config show",
        "config validate",
        "config schema",
    }


def test_the_version_is_that_of_the_package(call):
    assert call("--version").stdout.strip() == __version__


def test_python_dash_m_alignctl_is_the_same_program():
    command = [sys.executable, "-m", "alignctl", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == __version__


def test_help_config_and_dry_runs_import_no_torch(make_run):
    make_run(Path("runs/tiny"))
    calls = [
        *([*words, "--help"] for words in commands()),
        ["--version"],
        ["config", "list"],
        ["config", "show", "digits", "seed=3"],
        ["config", "validate", "digits"],
        ["config", "schema"],
        *([*words, "--dry-run"] for words in COMPUTING),
    ]
    code = """
import contextlib, io, json, sys
from alignctl.cli import main
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


# --- config


def test_config_list_names_every_ready_made_study(call):
    result = call("config", "list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == study_names()


def test_config_show_prints_a_study_that_can_be_run_again(call):
    result = call("config", "show", "digits", "temperature=0.1", "objectives=[cl, scl]")
    assert result.exit_code == 0
    Path("again.yaml").write_text(result.stdout)
    assert load_study("again.yaml") == load_study(
        "digits", ["temperature=0.1", "objectives=[cl, scl]"]
    )
    assert "clip_norm: 1.0" in result.stdout  # a default that the file does not set


def test_config_validate_says_what_is_valid(call, values):
    result = call("config", "validate", write_study(values))
    assert result.exit_code == 0
    assert result.stdout == "mine.yaml: a valid study of cl, nscl, scl, ce\n"
    result = call("config", "validate", "mine.yaml", "objectives=[cl]")
    assert result.stdout == "mine.yaml: a valid study of cl\n"


def test_config_schema_prints_the_schema_of_a_study(call):
    result = call("config", "schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == StudyConfig.model_json_schema()


# --- plans


def test_pretrain_alone_plans_the_digits(plan_of):
    plan = plan_of("pretrain")
    assert plan["run"] == "runs/digits"
    assert StudyConfig.model_validate(plan["study"]) == load_study("digits")
    assert plan["saved_epochs"] == list(load_study("digits").saved_epochs)


def test_pretrain_plans_the_next_free_run(plan_of, make_run):
    make_run(Path("runs/digits"))
    Path("runs/digits-2").mkdir()
    assert plan_of("pretrain")["run"] == "runs/digits-3"


@pytest.mark.parametrize("command", [TRAIN, SWEEP], ids=" ".join)
def test_overrides_need_no_config_before_them(plan_of, command):
    study = plan_of(*command, "training.epochs=7", "seed=3")["study"]
    assert study["name"] == "digits"
    assert study["training"]["epochs"] == 7
    assert study["seed"] == 3


def test_pretrain_plans_a_file_with_overrides_in_a_chosen_place(plan_of, values):
    words = ["pretrain", write_study(values), "objectives=[ce]", "--run-dir", "there"]
    plan = plan_of(*words, "--nproc", "3")
    assert plan["run"] == "there"
    assert plan["processes"] == 3
    assert [objective["name"] for objective in plan["study"]["objectives"]] == ["ce"]


def test_resuming_plans_the_newest_run_with_its_own_study(plan_of, make_run, make_study):
    make_run(Path("runs/tiny"), make_study(seed=5), status="interrupted")
    plan = plan_of("pretrain", "--resume")
    assert plan["run"] == "runs/tiny"
    assert plan["study"]["seed"] == 5


def test_an_empty_folder_may_be_a_run_directory(plan_of):
    Path("empty").mkdir()
    assert plan_of("pretrain", "--run-dir", "empty")["run"] == "empty"


def test_eval_alignment_plans_all_objectives_against_cl(plan_of, make_run):
    make_run(Path("runs/tiny"))
    assert plan_of("eval-alignment") == {
        "run": "runs/tiny",
        "pairs": ["cl - nscl", "cl - scl", "cl - ce"],
        "splits": ["train", "test"],
        "representation": "h",
        "metrics": [ORIGINAL_CKA, DEBIASED_CKA, ORIGINAL_RSA],
        "confidence": 0.95,
        "permutations": 0,
        "epochs": "all that are saved",
        "features": "not kept",
        "processes": "auto (one per GPU or core)",
        "device": "auto (a GPU where there is one)",
        "tables": "runs/tiny/alignment",
    }


def test_eval_alignment_plans_what_is_chosen(plan_of, make_run):
    make_run(Path("elsewhere"))
    words = ["eval-alignment", "elsewhere", "--reference", "scl", "--split", "test"]
    plan = plan_of(*words, "--split", "test", "--representation", "g", "--nproc", "2")
    assert plan["pairs"] == ["scl - cl", "scl - nscl", "scl - ce"]
    assert plan["splits"] == ["test"]
    assert plan["representation"] == "g"
    assert plan["processes"] == 2


def test_eval_alignment_plans_metrics_epochs_and_what_is_kept(plan_of, make_run):
    run = make_run(Path("runs/tiny"))
    for name, epoch in itertools.product(("cl", "nscl", "scl", "ce"), (0, 5, 10)):
        path = checkpoint_file(run, name, epoch)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    words = ["--all-pairs", "--metric", "cka", "--metric", "knn k=5", "--debiased"]
    words += ["--confidence", "0.9", "--permutations", "99", "--keep-features", "--device", "cpu"]
    plan = plan_of("eval-alignment", *words, "--every", "10")
    assert plan["pairs"] == [
        "cl - nscl", "cl - scl", "cl - ce", "nscl - scl", "nscl - ce", "scl - ce",
    ]  # fmt: skip
    assert plan["metrics"] == [DEBIASED_CKA, "knn k=5 distance=cosine"]
    assert (plan["confidence"], plan["permutations"]) == (0.9, 99)
    assert plan["epochs"] == [0, 10]
    assert (plan["features"], plan["device"]) == ("runs/tiny/features", "cpu")
    assert plan_of("eval-alignment", "--epochs", "5")["epochs"] == [5]
    assert plan_of("eval-alignment", "--biased")["metrics"] == [ORIGINAL_CKA, ORIGINAL_RSA]


def test_compare_plans_the_usual_metrics_or_those_chosen(plan_of):
    plan = plan_of("compare", "a.npy", "b.npz:key")
    assert (plan["a"], plan["b"]) == ("a.npy", "b.npz:key")
    assert len(plan["metrics"]) == len(USUAL_METRICS)
    words = ["--metric", "rsa", "--metric", "cka kernel=rbf", "--permutations", "9"]
    assert plan_of("compare", "a.npy", "b.npz", *words, "--device", "cpu") == {
        "a": "a.npy",
        "b": "b.npz",
        "metrics": [ORIGINAL_RSA, "cka kernel=rbf hsic=biased bandwidth=1"],
        "confidence": 0.95,
        "permutations": 9,
        "device": "cpu",
    }


def test_weight_gap_plans_the_pairs_asked_for(plan_of, make_run):
    make_run(Path("runs/tiny"))
    assert plan_of("weight-gap")["objectives"] == ["nscl", "scl", "ce"]
    plan = plan_of("weight-gap", "tiny", "--compare", "ce", "--compare", "nscl", "--compare", "ce")
    assert plan["objectives"] == ["ce", "nscl"]


def test_a_sweep_plans_one_run_for_each_value(plan_of):
    plan = plan_of("sweep", "temperature", "--values", "0.1,1, 1e-2")
    assert plan["sweep"] == "runs/digits-temperature"
    assert [Path(run).name for run in plan["runs"]] == [
        "temperature=0.1",
        "temperature=1.0",
        "temperature=0.01",
    ]
    assert plan["reference"] == "cl"
    assert "temperature" not in plan["study"]


def test_a_sweep_without_cl_compares_with_its_first_objective(plan_of):
    assert plan_of("sweep", "temperature", "objectives=[scl, ce]")["reference"] == "scl"


def make_sweep(path: Path, study: StudyConfig) -> SweepDirectory:
    sweep = SweepDirectory(path)
    sweep.describe(SweepDescription("temperature", "temperature", (0.1,), study))
    return sweep


def test_a_sweep_goes_on_where_it_was_and_leaves_other_sweeps_alone(plan_of):
    make_sweep(Path("runs/digits-temperature"), load_study("digits"))
    same = plan_of("sweep", "temperature", "--values", "0.3")
    assert same["sweep"] == "runs/digits-temperature"
    other = plan_of("sweep", "temperature", "seed=9")
    assert other["sweep"] == "runs/digits-temperature-2"


def test_a_report_plans_the_newest_run_or_sweep_and_its_folder(plan_of, make_run, make_study):
    make_run(Path("a/first"))
    make_sweep(Path("runs/s"), make_study())
    assert plan_of("report", "to", "markdown") == {
        "runs": ["runs/s"],
        "report": "runs/s/report/report.md",
        "figures": "runs/s/report/figures",
    }
    both = plan_of("report", "to", "markdown", "a/first", "s")
    assert both["runs"] == ["a/first", "runs/s"]
    assert both["report"] == "runs/report/report.md"
    chosen = plan_of("report", "to", "markdown", "a/first", "--output", "here")
    assert chosen["report"] == "here/report.md"


# --- what runs without training


@pytest.fixture
def finished_run(make_run):
    """A finished run whose last losses are 0.5 for cl and 0.25 for the others."""
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


def test_resuming_a_finished_run_trains_nothing_and_says_so(call, finished_run):
    before = snapshot()
    result = call("pretrain", "--resume")
    assert result.exit_code == 0
    assert "runs/tiny: finished already" in result.stdout
    assert "0.5000" in result.stdout
    assert snapshot() == before


def test_json_is_one_document_on_stdout(call, finished_run):
    result = call("pretrain", "--resume", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["losses"] == {"cl": 0.5, "nscl": 0.25, "scl": 0.25, "ce": 0.25}
    assert found["objectives"] == ["cl", "nscl", "scl", "ce"]
    assert found["epochs"] == 10


def test_a_report_is_written_into_the_run_and_its_answer_is_printed(call, finished_run):
    rows = [
        {"epoch": 10, "split": "test", "representation": "h", "reference": "cl",
         "objective": name, "metric": metric, "value": value, "num_images": 360}
        for metric in (ORIGINAL_CKA, ORIGINAL_RSA) for name, value in (("nscl", 0.75), ("ce", 0.5))
    ]  # fmt: skip
    write_parquet(finished_run.alignment_table, pd.DataFrame(rows))
    result = call("report", "to", "markdown")
    assert result.exit_code == 0, result.stderr
    answer = (
        "After epoch 10, on 360 test images, "
        "by CKA NSCL (0.750) is closest to CL, 0.250 ahead of CE (0.500); "
        "by RSA NSCL (0.750) is closest to CL, 0.250 ahead of CE (0.500)."
    )
    assert result.stdout.splitlines() == [
        answer,
        "runs/tiny/report/report.md: written, with 2 figures",
    ]
    assert answer in Path("runs/tiny/report/report.md").read_text()
    found = json.loads(call("report", "to", "markdown", "--json").stdout)
    assert found["answers"] == [answer]
    assert all(Path(figure).is_file() for figure in found["figures"])


def test_a_run_that_was_not_evaluated_can_be_reported(call, finished_run):
    result = call("report", "to", "markdown")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Not evaluated yet: run `alignctl eval-alignment`.\n")


# --- what is refused: one line, exit code 2, nothing written

STUDY_COMMANDS = {
    "pretrain": TRAIN,
    "pretrain-dry": [*TRAIN, "--dry-run"],
    "sweep": SWEEP,
    "sweep-dry": [*SWEEP, "--dry-run"],
    "show": ["config", "show"],
    "validate": ["config", "validate"],
}
EVERY_STUDY_COMMAND = pytest.mark.parametrize(
    "command", list(STUDY_COMMANDS.values()), ids=list(STUDY_COMMANDS)
)


@EVERY_STUDY_COMMAND
def test_a_missing_file_is_refused(check_refused, command):
    check_refused([*command, "missing.yaml"], "missing.yaml: no such file")


@EVERY_STUDY_COMMAND
def test_an_unknown_study_names_the_nearest_one(check_refused, command):
    check_refused([*command, "digit"], "digit: neither a file nor", "did you mean 'digits'?")


@EVERY_STUDY_COMMAND
def test_broken_yaml_is_refused_with_its_line(check_refused, command):
    Path("broken.yaml").write_text("name: x\nobjectives: [cl\n")
    check_refused([*command, "broken.yaml"], "broken.yaml, line 3: not valid YAML: ")


@EVERY_STUDY_COMMAND
def test_a_key_that_stands_twice_is_refused(check_refused, command):
    Path("twice.yaml").write_text("name: x\nseed: 1\nseed: 2\n")
    check_refused([*command, "twice.yaml"], "twice.yaml, line 3: ", "the key 'seed' stands twice")


@EVERY_STUDY_COMMAND
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temprature": 1}, "mine.yaml: temprature: unknown key; did you mean 'temperature'?"),
        ({"seed": "x"}, "mine.yaml: seed: must be a whole number, got 'x'"),
        ({"dataset": {"name": "cifar"}}, "dataset: 'cifar' is not allowed; did you mean 'cifar10'"),
        ({"objectives": ["cl", "nsc"]}, "objectives[1]: 'nsc' is not allowed; did you mean 'nscl'"),
        ({"dataset": {"name": "parquet"}}, "dataset.path: is missing"),
        ({"augmentation": {"crop_scale": [1, 0.5]}}, "augmentation.crop_scale: the smallest, 1,"),
    ],
    ids=["key", "type", "dataset", "objective", "missing", "order"],
)
def test_a_wrong_study_is_refused(check_refused, values, command, changes, message):
    check_refused([*command, write_study(values, **changes)], message)


@pytest.mark.parametrize("temperature", ["0", "-0.5", "true", ".nan", "warm"])
@EITHER_WAY
def test_a_temperature_that_is_no_positive_number_is_refused(
    check_refused, dry_or_not, temperature
):
    words = ["pretrain", f"temperature={temperature}", *dry_or_not]
    check_refused(words, "digits.yaml: temperature: ")


@pytest.mark.parametrize("override", ["training.epochs", "=5", "training.epochs=true"])
@EVERY_STUDY_COMMAND
def test_a_wrong_override_is_refused(check_refused, command, override):
    check_refused([*command, "digits", override])


@EITHER_WAY
def test_a_run_directory_with_another_config_names_the_difference(
    check_refused, dry_or_not, make_run, values
):
    make_run(Path("there"))
    words = ["pretrain", write_study(values, seed=9), "--run-dir", "there", *dry_or_not]
    message = "there: holds a run with another config (seed is 9 here and 0 there); "
    check_refused(words, message, "--run-dir", "--resume")
    check_refused([*words, "--resume"], message)


@EITHER_WAY
def test_a_run_directory_with_the_same_run_offers_to_resume(
    check_refused, dry_or_not, make_run, values
):
    make_run(Path("there"))
    words = ["pretrain", write_study(values), "--run-dir", "there", *dry_or_not]
    check_refused(words, "there: holds a run already; --resume it or choose another --run-dir")


@EITHER_WAY
def test_a_folder_with_other_files_is_no_run_directory(check_refused, dry_or_not):
    Path("there").mkdir()
    Path("there/thesis.txt").write_text("years of work")
    words = ["pretrain", "--run-dir", "there", *dry_or_not]
    check_refused(words, "there: is not empty and holds no run")
    check_refused([*words, "digits", "--resume"], "there: is not empty and holds no run")


@EITHER_WAY
def test_a_file_in_the_place_of_a_run_directory_is_refused(check_refused, dry_or_not):
    Path("there").write_text("")
    check_refused(["pretrain", "--run-dir", "there", *dry_or_not], "there: is a file; choose")


@EITHER_WAY
def test_resuming_takes_a_run(check_refused, dry_or_not):
    check_refused(["pretrain", "--resume", *dry_or_not], "no run under ")
    words = ["pretrain", "--resume", "--run-dir", "there", *dry_or_not]
    check_refused(words, "there: holds no run to resume")


@pytest.mark.parametrize("nproc", ["0", "x", "-1", "1.5", "", "²"])
@pytest.mark.parametrize("command", [TRAIN, EVAL, SWEEP], ids=" ".join)
def test_a_wrong_number_of_processes_is_refused(check_refused, make_run, command, nproc):
    make_run(Path("runs/tiny"))
    words = [*command, f"--nproc={nproc}"]
    check_refused(words, f"--nproc: '{nproc}' is neither auto nor a whole number of at least 1")
    check_refused([*words, "--dry-run"], "--nproc: ")


@pytest.mark.parametrize("command", [EVAL, GAP, REPORT], ids=" ".join)
@EITHER_WAY
def test_without_any_run_the_error_says_how_to_make_one(check_refused, dry_or_not, command):
    check_refused([*command, *dry_or_not], "no run under ", "`alignctl pretrain`")


@pytest.mark.parametrize("command", [EVAL, GAP, REPORT], ids=" ".join)
@EITHER_WAY
def test_an_unknown_run_names_the_nearest_one(check_refused, dry_or_not, make_run, command):
    make_run(Path("runs/tiny"))
    message = "tin: not a run directory; did you mean 'tiny'?"
    check_refused([*command, "tin", *dry_or_not], message)


@EITHER_WAY
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*EVAL, "--split", "tests"], "--split: 'tests' is not a split; did you mean 'test'?"),
        ([*EVAL, "--reference", "dcl"], "--reference: 'dcl' is not an objective of this run"),
        ([*EVAL, "--metric", "ckaa"], "metric 'ckaa': 'ckaa' is not a metric; did you mean 'cka'"),
        ([*EVAL, "--confidence", "95"], "--confidence: 95 does not lie between 0 and 1"),
        ([*EVAL, "--permutations", "-1"], "--permutations: -1 is less than 0"),
        ([*EVAL, "--epochs", "3"], "--epochs: '3' is not a saved epoch (none)"),
        ([*EVAL, "--every", "0"], "--every: 0 is less than 1"),
        ([*EVAL, "--every", "2", "--epochs", "0"], "--every and --epochs: choose one"),
        ([*EVAL, "--device", "gpu"], "--device: 'gpu' is not a device (auto, cpu, cuda)"),
        ([*COMPARE, "--metric", "knn k=0"], "metric 'knn k=0': k: input should be greater"),
        ([*COMPARE, "--confidence", "0"], "--confidence: 0 does not lie between 0 and 1"),
        ([*COMPARE, "--permutations", "-1"], "--permutations: -1 is less than 0"),
        ([*COMPARE, "--device", "gpu"], "--device: 'gpu' is not a device (auto, cpu, cuda)"),
        ([*GAP, "--reference", "dcl"], "--reference: 'dcl' is not an objective of this run"),
        ([*GAP, "--compare", "nsc"], "--compare: 'nsc' is not comparable here; did you mean 'nscl"),
        ([*GAP, "--compare", "cl"], "--compare: 'cl' is not comparable here"),
    ],
)
def test_a_wrong_choice_lists_what_there_is(check_refused, dry_or_not, make_run, words, message):
    make_run(Path("runs/tiny"))
    check_refused([*words, *dry_or_not], message)


def test_an_unknown_layer_names_the_nearest_one(check_refused, make_run):
    make_run(Path("runs/tiny"))
    words = [*EVAL, "--representation", "encoder.layer9"]
    check_refused(words, "--representation: 'encoder.layer9' is no layer; did you mean 'encoder.l")


def test_files_that_are_not_there_are_refused(check_refused):
    check_refused(COMPARE, "a.npy: there is no such file")


@pytest.mark.parametrize("words", [["compare"], ["compare", "a.npy"], [*COMPARE, "c.npy"]])
def test_comparing_takes_two_files(call, words):
    result = call(*words)
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize("command", [EVAL, GAP], ids=" ".join)
@EITHER_WAY
def test_a_run_of_one_objective_has_nothing_to_compare(
    check_refused, dry_or_not, make_run, make_study, command
):
    make_run(Path("runs/tiny"), make_study(objectives=["cl"]))
    message = "runs/tiny: has one objective, 'cl'; comparing takes two"
    check_refused([*command, *dry_or_not], message)


@EITHER_WAY
def test_a_sweep_of_one_objective_is_refused_before_it_trains(check_refused, dry_or_not):
    message = "digits: has one objective, 'cl'; comparing takes two"
    check_refused([*SWEEP, "objectives=[cl]", *dry_or_not], message)


@pytest.mark.parametrize("command", [EVAL, GAP], ids=" ".join)
@EITHER_WAY
def test_a_sweep_in_the_place_of_a_run_names_its_runs(
    check_refused, dry_or_not, make_run, make_study, command
):
    sweep = make_sweep(Path("runs/s"), make_study())
    make_run(sweep.run("temperature", 0.1).path)
    message = "s: is a sweep; name one of its runs (temperature=0.1)"
    check_refused([*command, "s", *dry_or_not], message)


@EITHER_WAY
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("a,b", "--values: 'a,b' is not a list of numbers such as 0.1,0.5,1.0"),
        ("", "--values: '' is not a list of numbers"),
        ("0.1,[0.2]", "is not a list of numbers"),
        ("0.1]", "--values '0.1]', line 1: not valid YAML"),
        ("0.5,0.1,0.5", "--values: '0.5,0.1,0.5' names a value twice"),
        ("1,1.0", "--values: '1,1.0' names a value twice"),
        ("0.1,0", "--values 0: temperature: input should be greater than 0, got 0"),
        ("0.1,-1", "--values -1: temperature: "),
        ("0.1,true", "temperature: must be a number, got true"),
        ("0.1,.inf", "--values inf: temperature: "),
    ],
)
def test_wrong_values_of_a_sweep_are_refused(check_refused, dry_or_not, values, message):
    check_refused([*SWEEP, f"--values={values}", *dry_or_not], message)


@EITHER_WAY
def test_another_sweep_in_the_folder_names_the_difference(check_refused, dry_or_not):
    make_sweep(Path("there"), load_study("digits"))
    words = [*SWEEP, "seed=9", "--run-dir", "there", *dry_or_not]
    check_refused(words, "there: holds another sweep (seed is 9 here and 0 there); choose another")


@EITHER_WAY
@pytest.mark.parametrize("kind", ["file", "folder", "run"])
def test_a_sweep_takes_a_place_of_its_own(check_refused, dry_or_not, make_run, kind):
    if kind == "file":
        Path("there").write_text("")
    elif kind == "folder":
        Path("there").mkdir()
        Path("there/thesis.txt").write_text("years of work")
    else:
        make_run(Path("there"))
    words = [*SWEEP, "--run-dir", "there", *dry_or_not]
    check_refused(words, "there: exists and holds no sweep; choose another --run-dir")


# --- other exits


def test_several_wrong_keys_are_told_at_once(call, values):
    result = call("config", "validate", write_study(values, seed="x", temprature=1))
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
    command = [sys.executable, "-m", "alignctl", "compare", "a.npy"]

    def start(*words):
        return subprocess.run([*command, *words], check=False, capture_output=True, text=True)

    done = start("b.npy", "--metric", "cka", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (score,) = json.loads(done.stdout)["scores"]
    assert score["metric"] == ORIGINAL_CKA
    assert 0 < score["value"] < 1
    failed = start("c.npy", "--metric", "rsa")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "error: c.npy, row 4: all zeros, so it has no cosine\n"


def test_verbose_shows_where_an_error_came_from(call):
    result = call("pretrain", "missing.yaml", "-v")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: missing.yaml: no such file"


def test_an_interruption_is_exit_code_130(call, monkeypatch):
    def interrupt(*_):
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
