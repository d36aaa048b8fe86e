"""Configs of the paper's own code on the command line, and --config."""

import json
from pathlib import Path

import pytest

from alignctl.config.load import load_study, study_names

TRAIN = ["pretrain"]
SWEEP = ["sweep", "temperature"]
NOTICE = "note: old.yaml: a config of understanding-ssl-v2, translated"
TRAINING = pytest.mark.parametrize("command", [TRAIN, SWEEP], ids=" ".join)


@TRAINING
@pytest.mark.parametrize("option", [["--config"], ["-c"], []], ids=str)
def test_training_takes_a_config_of_theirs(plan_of, write_original, command, option):
    plan = plan_of(*command, *option, write_original(), "training.epochs=7", "seed=3")
    study = plan["study"]
    assert study["name"] == "simclr-cifar100"
    assert study["training"]["optimizer"]["exclude_bias_and_norm"] is False
    assert (study["training"]["epochs"], study["seed"]) == (7, 3)


@TRAINING
def test_config_takes_ready_made_studies_too(plan_of, command):
    study = plan_of(*command, "dataset.download=true", "seed=3", "--config", "cifar10_resnet50")[
        "study"
    ]
    assert (study["name"], study["seed"]) == ("cifar10_resnet50", 3)


@TRAINING
def test_a_study_that_is_named_twice_is_refused(check_refused, dry_or_not, command):
    words = [*command, "digits", "--config", "cifar10_resnet50", *dry_or_not]
    check_refused(words, "--config: 'digits' names a study already; give one of the two")


@TRAINING
def test_words_after_config_are_overrides(check_refused, dry_or_not, command):
    words = [*command, "-c", "digits", "seed=1", "cifar10_resnet50", *dry_or_not]
    check_refused(words, "'cifar10_resnet50' is not an override: write key=value")


@pytest.mark.parametrize(
    "words",
    [
        [*TRAIN, "--dry-run"],
        [*SWEEP, "--dry-run"],
        ["config", "show"],
        ["config", "validate"],
        ["config", "convert"],
    ],
    ids=" ".join,
)
def test_the_notice_is_told_once_on_stderr(call, write_original, words):
    result = call(*words, write_original(), "seed=1")
    assert result.exit_code == 0
    opening, *lines = result.stderr.splitlines()
    assert opening == NOTICE
    assert all(line.startswith("  ") for line in lines)
    assert result.stderr.count("ignored: ") == 1
    assert "translated" not in result.stdout


def test_resuming_tells_the_notice_once_and_finds_the_run_by_the_translated_name(
    call, make_run, write_original
):
    study = load_study(write_original())
    make_run(Path("runs/simclr-cifar100"), study, status="interrupted")
    result = call("pretrain", "--config", "old.yaml", "--resume", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count(NOTICE) == 1
    assert "runs/simclr-cifar100" in result.stdout


def test_the_one_document_of_json_stays_alone_on_stdout(
    call, make_run, write_original, finished_run
):
    study = load_study(write_original(), ["training.epochs=10"])
    finished_run.config_file.unlink()
    finished_run.write_config(study)
    words = ["pretrain", "-c", "old.yaml", "training.epochs=10", "--run-dir", "runs/tiny"]
    result = call(*words, "--resume", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["epochs"] == 10
    assert NOTICE in result.stderr


@pytest.mark.parametrize(
    "words",
    [TRAIN, [*TRAIN, "--config"], SWEEP, ["config", "show"], ["config", "convert"]],
    ids=" ".join,
)
def test_what_is_wrong_in_a_config_of_theirs_is_one_line_in_its_names(
    check_refused, write_original, original, words
):
    training = {**original["training"], "lr": "abc"}
    message = "old.yaml: training.lr: must be a number, got 'abc'"
    check_refused([*words, write_original(training=training)], message)


def test_an_override_in_their_names_is_refused_with_ours(check_refused, write_original):
    message = "old.yaml: training.lr: unknown key; "
    check_refused(["pretrain", write_original(), "training.lr=0.1"], message, "learning_rate'")


def test_a_converted_file_is_the_same_study(call, write_original):
    result = call("config", "convert", write_original(), "temperature=0.2", "dataset.classes=5")
    assert result.exit_code == 0
    opening = result.stdout.partition("\n")[0]
    assert opening == (
        "# Made from old.yaml, a config of understanding-ssl-v2, with temperature=0.2 "
        "dataset.classes=5; run it by: alignctl pretrain FILE"
    )
    Path("new.yaml").write_text(result.stdout)
    expected = load_study("old.yaml", ["temperature=0.2", "dataset.classes=5"])
    assert load_study("new.yaml") == expected
    told: list[str] = []
    load_study("new.yaml", notify=told.append)
    assert told == []


def test_a_converted_file_may_be_written(call, write_original, snapshot):
    write_original()
    result = call("config", "convert", "old.yaml", "--output", "there/new.yaml")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "there/new.yaml: written; next: alignctl pretrain there/new.yaml\n"
    text = Path("there/new.yaml").read_text()
    assert text.startswith("# Made from old.yaml, ")
    assert text.partition("\n")[0].endswith("alignctl pretrain there/new.yaml")
    assert load_study("there/new.yaml") == load_study("old.yaml")
    assert set(snapshot()) == {"old.yaml", "there", "there/new.yaml"}


def test_converting_overwrites_nothing(check_refused, write_original):
    Path("new.yaml").write_text("precious")
    words = ["config", "convert", write_original(), "--output", "new.yaml"]
    check_refused(words, "--output: new.yaml exists already; choose another name")


def test_a_study_of_ours_needs_no_conversion(check_refused, write_study):
    message = "is no config of the original code; nothing to convert"
    check_refused(["config", "convert", write_study()], f"mine.yaml: {message}")
    check_refused(["config", "convert", "digits"], f"digits: {message}")


def test_a_line_break_in_a_name_does_not_end_the_opening_comment(call, write_original):
    Path(write_original()).rename("a\nseed: 9 #.yaml")
    result = call("config", "convert", "a\nseed: 9 #.yaml")
    assert result.exit_code == 0
    Path("new.yaml").write_text(result.stdout)
    assert load_study("new.yaml").seed == 0


def test_a_file_beside_a_ready_made_study_of_its_name_wins(call, write_original):
    name = "cifar100_resnet50"
    assert name in study_names()
    Path(write_original()).rename(f"{name}.yaml")
    assert "name: simclr-cifar100\n" in call("config", "show", f"{name}.yaml").stdout
    assert f"name: {name}\n" in call("config", "show", name).stdout
