"""What is refused: one line, exit code 2, nothing written."""

from pathlib import Path

import pytest

from alignctl.config.load import load_study

TRAIN = ["pretrain"]
EVAL = ["eval-alignment"]
GAP = ["weight-gap"]
SWEEP = ["sweep", "temperature"]
REPORT = ["report", "to", "markdown"]
COMPARE = ["compare", "a.npy", "b.npz:key"]
VERIFY = ["verify"]

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
def test_a_wrong_study_is_refused(check_refused, write_study, command, changes, message):
    check_refused([*command, write_study(**changes)], message)


@pytest.mark.parametrize("temperature", ["0", "-0.5", "true", ".nan", "warm"])
def test_a_temperature_that_is_no_positive_number_is_refused(
    check_refused, dry_or_not, temperature
):
    words = ["pretrain", f"temperature={temperature}", *dry_or_not]
    check_refused(words, "digits.yaml: temperature: ")


@pytest.mark.parametrize("override", ["training.epochs", "=5", "training.epochs=true"])
@EVERY_STUDY_COMMAND
def test_a_wrong_override_is_refused(check_refused, command, override):
    check_refused([*command, "digits", override])


def test_a_run_directory_with_another_config_names_the_difference(
    check_refused, dry_or_not, make_run, write_study
):
    make_run(Path("there"))
    words = ["pretrain", write_study(seed=9), "--run-dir", "there", *dry_or_not]
    message = "there: holds a run with another config (seed is 9 here and 0 there); "
    check_refused(words, message, "--run-dir", "--resume")
    check_refused([*words, "--resume"], message)


def test_a_run_directory_with_the_same_run_offers_to_resume(
    check_refused, dry_or_not, make_run, write_study
):
    make_run(Path("there"))
    words = ["pretrain", write_study(), "--run-dir", "there", *dry_or_not]
    check_refused(words, "there: holds a run already; --resume it or choose another --run-dir")


def test_a_folder_with_other_files_is_no_run_directory(check_refused, dry_or_not):
    Path("there").mkdir()
    Path("there/thesis.txt").write_text("years of work")
    words = ["pretrain", "--run-dir", "there", *dry_or_not]
    check_refused(words, "there: is not empty and holds no run")
    check_refused([*words, "digits", "--resume"], "there: is not empty and holds no run")


def test_a_file_in_the_place_of_a_run_directory_is_refused(check_refused, dry_or_not):
    Path("there").write_text("")
    check_refused(["pretrain", "--run-dir", "there", *dry_or_not], "there: is a file; choose")


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


def test_more_processes_than_objectives_to_place_are_refused(check_refused, dry_or_not):
    words = ["pretrain", "objectives=[ce]", "--nproc", "3", *dry_or_not]
    check_refused(words, "--nproc: 3 processes, but there are only 1 objectives to place")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_timeout_is_a_number_of_seconds(check_refused, dry_or_not, seconds):
    message = f"--timeout: {seconds} is not a number of seconds above 0"
    check_refused([*TRAIN, f"--timeout={seconds}", *dry_or_not], message)


@pytest.mark.parametrize("command", [EVAL, GAP, REPORT, VERIFY], ids=" ".join)
def test_without_any_run_the_error_says_how_to_make_one(check_refused, dry_or_not, command):
    check_refused([*command, *dry_or_not], "no run under ", "`alignctl pretrain`")


@pytest.mark.parametrize("command", [EVAL, GAP, REPORT, VERIFY], ids=" ".join)
def test_an_unknown_run_names_the_nearest_one(check_refused, dry_or_not, make_run, command):
    make_run(Path("runs/tiny"))
    message = "tin: not a run directory; did you mean 'tiny'?"
    check_refused([*command, "tin", *dry_or_not], message)


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
        ([*VERIFY, "--epoch", "2"], "--epoch: 2 is not a finished epoch of runs/tiny (1 to 1)"),
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
def test_a_run_of_one_objective_has_nothing_to_compare(
    check_refused, dry_or_not, make_run, make_study, command
):
    make_run(Path("runs/tiny"), make_study(objectives=["cl"]))
    message = "runs/tiny: has one objective, 'cl'; comparing takes two"
    check_refused([*command, *dry_or_not], message)


def test_a_sweep_of_one_objective_is_refused_before_it_trains(check_refused, dry_or_not):
    message = "digits: has one objective, 'cl'; comparing takes two"
    check_refused([*SWEEP, "objectives=[cl]", *dry_or_not], message)


@pytest.mark.parametrize("command", [EVAL, GAP, VERIFY], ids=" ".join)
def test_a_sweep_in_the_place_of_a_run_names_its_runs(
    check_refused, dry_or_not, make_run, make_study, command, make_sweep
):
    sweep = make_sweep(Path("runs/s"), make_study())
    make_run(sweep.run("temperature", 0.1).path)
    message = "s: is a sweep; name one of its runs (temperature=0.1)"
    check_refused([*command, "s", *dry_or_not], message)


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


def test_another_sweep_in_the_folder_names_the_difference(check_refused, dry_or_not, make_sweep):
    make_sweep(Path("there"), load_study("digits"))
    words = [*SWEEP, "seed=9", "--run-dir", "there", *dry_or_not]
    check_refused(words, "there: holds another sweep (seed is 9 here and 0 there); choose another")


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


@pytest.mark.parametrize(
    "words",
    [
        "pretrain",
        "pretrain --resume --run-dir runs/tiny",
        "eval-alignment",
        "weight-gap",
        "verify",
        "doctor",
        "sweep temperature",
    ],
)
def test_a_process_of_torchrun_starts_nothing(check_refused, finished_run, monkeypatch, words):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = "started as one of 2 processes by torchrun"
    check_refused(words.split(), told, f"run `alignctl {words}` without torchrun")
