"""What --dry-run shows."""

import itertools
from pathlib import Path

import pytest

from alignctl.config import StudyConfig
from alignctl.config.load import load_study
from alignctl.config.metric_configs import DEBIASED_CKA, ORIGINAL_CKA, ORIGINAL_RSA, USUAL_METRICS
from alignctl.runs.directory import checkpoint_file

TRAIN = ["pretrain"]
SWEEP = ["sweep", "temperature"]


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


def test_pretrain_plans_a_file_with_overrides_in_a_chosen_place(plan_of, write_study):
    words = ["pretrain", write_study(), "objectives=[ce, scl, cl]", "--run-dir", "there"]
    plan = plan_of(*words, "--nproc", "3")
    assert plan["run"] == "there"
    assert plan["processes"] == 3
    assert [objective["name"] for objective in plan["study"]["objectives"]] == ["ce", "scl", "cl"]


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
        "interval": "stratified",
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
        "ids": "auto (columns that look like ids)",
        "features": "auto (columns that look like features)",
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


def test_a_sweep_goes_on_where_it_was_and_leaves_other_sweeps_alone(plan_of, make_sweep):
    make_sweep(Path("runs/digits-temperature"), load_study("digits"))
    same = plan_of("sweep", "temperature", "--values", "0.3")
    assert same["sweep"] == "runs/digits-temperature"
    other = plan_of("sweep", "temperature", "seed=9")
    assert other["sweep"] == "runs/digits-temperature-2"


def test_a_report_plans_the_newest_run_or_sweep_and_its_folder(
    plan_of, make_run, make_study, make_sweep
):
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
