import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alignctl.cli.alignment_tables import label_of, last_table, tables_of
from alignctl.commands.eval_alignment import (
    EvalOptions,
    EvalPlan,
    EvalResult,
    plan,
)
from alignctl.config.metric_configs import DEBIASED_CKA, ORIGINAL_CKA, ORIGINAL_RSA
from alignctl.errors import ConfigError
from alignctl.runs import RunDirectory
from alignctl.runs.directory import checkpoint_file
from alignctl.runs.table_files import read_parquet

USUAL = [ORIGINAL_CKA, DEBIASED_CKA, ORIGINAL_RSA]
RUN = Path("runs/tiny")


def snapshot():
    return {str(p): p.read_bytes() if p.is_file() else None for p in Path().rglob("*")}


def document(text):
    """One JSON document that any reader takes: Python alone writes and reads NaN."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


# --- plans


@pytest.fixture
def options_of(make_run, tmp_path, monkeypatch):
    """A function of options: the plan for a run with weights after epochs 0 to 5, ce's to 4."""
    monkeypatch.chdir(tmp_path)
    run = make_run(RUN)
    for name, epoch in itertools.product(("cl", "nscl", "scl", "ce"), range(6)):
        if (name, epoch) != ("ce", 5):
            checkpoint_file(run, name, epoch).parent.mkdir(parents=True, exist_ok=True)
            checkpoint_file(run, name, epoch).touch()

    def make(**options):
        before = snapshot()
        try:
            return plan("tiny", EvalOptions(**options))
        finally:
            assert snapshot() == before

    return make


def names_of(plan):
    return [metric.identifier for metric in plan.metrics]


@pytest.mark.parametrize(
    ("debiased", "names"),
    [
        (None, [ORIGINAL_CKA, DEBIASED_CKA, ORIGINAL_RSA]),
        (True, [DEBIASED_CKA, ORIGINAL_RSA]),
        (False, [ORIGINAL_CKA, ORIGINAL_RSA]),
    ],
)
def test_without_metrics_both_cka_and_rsa_are_meant_or_the_one_asked_for(
    options_of, debiased, names
):
    assert names_of(options_of(debiased=debiased)) == names


def test_debiased_is_for_cka_that_does_not_say_which(options_of):
    asked = ("cka kernel=cosine", "rsa", "cka hsic=biased", "cka kernel=rbf hsic=debiased",
             "procrustes", "knn")  # fmt: skip
    plain = names_of(options_of(metrics=asked))
    assert plain[0] == "cka kernel=cosine hsic=biased"
    assert names_of(options_of(metrics=asked, debiased=False)) == plain
    assert names_of(options_of(metrics=asked, debiased=True)) == [
        "cka kernel=cosine hsic=debiased", *plain[1:],
    ]  # fmt: skip


def test_a_metric_that_is_asked_for_twice_is_measured_once(options_of):
    asked = ("cka hsic=debiased", "rsa", "rsa distance=cosine", "cka")
    assert names_of(options_of(metrics=asked, debiased=True)) == [DEBIASED_CKA, ORIGINAL_RSA]
    assert options_of(splits=("test", "test")).splits == ("test",)


def test_all_pairs_are_every_two_objectives_once(options_of):
    found = options_of(all_pairs=True)
    assert found.pairs == tuple(itertools.combinations(("cl", "nscl", "scl", "ce"), 2))
    assert found.reference is None
    assert label_of(found, "cl", "ce") == "cl-ce"
    one = options_of(reference="scl")
    assert one.pairs == (("scl", "cl"), ("scl", "nscl"), ("scl", "ce"))
    assert (one.reference, label_of(one, "scl", "ce")) == ("scl", "ce")


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({}, None),
        ({"epochs": "2"}, (2,)),
        ({"epochs": "4, 0,4"}, (0, 4)),
        ({"every": 1}, (0, 1, 2, 3, 4)),
        ({"every": 3}, (0, 3, 4)),
        ({"every": 100}, (0, 4)),
    ],
)
def test_epochs_are_all_or_those_chosen_among_the_ones_every_model_has(options_of, options, epochs):
    assert options_of(**options).epochs == epochs


SAVED = "is not a saved epoch (0, 1, 2, 3, 4)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "dcl"}, "--reference: 'dcl' is not an objective of this run"),
        ({"splits": ("test", "valid")}, "--split: 'valid' is not a split (test, train)"),
        ({"metrics": ("ckaa",)}, "metric 'ckaa': 'ckaa' is not a metric; did you mean 'cka'?"),
        ({"metrics": ("cka", "knn k=0")}, "metric 'knn k=0': k: input should be greater"),
        ({"confidence": 0.0}, "--confidence: 0 does not lie between 0 and 1"),
        ({"confidence": 1.0}, "--confidence: 1 does not lie between 0 and 1"),
        ({"confidence": 95.0}, "--confidence: 95 does not lie between 0 and 1"),
        ({"confidence": float("nan")}, "--confidence: nan does not lie between 0 and 1"),
        ({"permutations": -1}, "--permutations: -1 is less than 0"),
        (
            {"interval": "simpel"},
            "--interval: 'simpel' is not an interval; did you mean 'simple'? (simple, stratified)",
        ),
        ({"epochs": "5"}, f"--epochs: '5' {SAVED}"),
        ({"epochs": "0,x"}, f"--epochs: 'x' {SAVED}"),
        ({"epochs": "1,"}, f"--epochs: '' {SAVED}"),
        ({"epochs": "-1"}, f"--epochs: '-1' {SAVED}"),
        ({"epochs": "²"}, f"--epochs: '²' {SAVED}"),
        ({"every": 0}, "--every: 0 is less than 1"),
        ({"every": 2, "epochs": "0"}, "--every and --epochs: choose one"),
        ({"nproc": "0"}, "--nproc: '0' is neither auto nor a whole number of at least 1"),
        ({"device": "gpu"}, "--device: 'gpu' is not a device (auto, cpu, cuda)"),
    ],
    ids=str,
)  # fmt: skip
def test_an_option_that_cannot_be_served_is_refused(options_of, options, message):
    with pytest.raises(ConfigError) as error:
        options_of(**options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_all_pairs_of_one_objective_are_none(make_run, make_study, tmp_path):
    run = make_run(tmp_path / "run", make_study(objectives=["cl"]))
    with pytest.raises(ConfigError, match="has one objective, 'cl'; comparing takes two"):
        plan(str(run.path), EvalOptions(all_pairs=True))


def test_no_epoch_can_be_chosen_before_there_are_weights(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"--epochs: '0' is not a saved epoch \(none\)"):
        plan(str(run.path), EvalOptions(epochs="0"))


# --- what is printed


def result_of(plan: EvalPlan, metrics, epochs=(0, 5)) -> EvalResult:
    """A result whose values are 0, 1, 2, ... in the order of split, epoch, pair and metric."""
    keys = itertools.product(plan.splits, epochs, plan.pairs, metrics)
    rows = [
        {"epoch": epoch, "split": split, "representation": "h", "reference": pair[0],
         "objective": pair[1],
         "metric": metric, "value": float(number), "ci_low": None, "ci_high": number + 0.5,
         "p_value": 0.25, "num_images": 90, "form": "features", "interval": "simple"}
        for number, (split, epoch, pair, metric) in enumerate(keys)
    ]  # fmt: skip
    return EvalResult("runs/tiny", "h", 0.9, 4, rows)


def test_a_split_has_one_table_with_a_column_for_each_metric_and_objective(options_of):
    chosen = options_of(splits=("train", "test"))
    train, test = tables_of(result_of(chosen, [ORIGINAL_CKA, DEBIASED_CKA]), chosen)
    assert train[0] == "Similarity to cl on train (h)"
    columns = ["epoch", *(f"CKA {name}" for name in ("nscl", "scl", "ce")),
               *(f"debiased\nCKA {name}" for name in ("nscl", "scl", "ce"))]  # fmt: skip
    assert train[1] == test[1] == columns
    assert train[2] == [[0, 0.0, 2.0, 4.0, 1.0, 3.0, 5.0], [5, 6.0, 8.0, 10.0, 7.0, 9.0, 11.0]]
    assert test[2][0] == [0, 12.0, 14.0, 16.0, 13.0, 15.0, 17.0]


def test_a_value_that_is_missing_is_a_gap(options_of):
    chosen = options_of(splits=("test",))
    whole = result_of(chosen, [ORIGINAL_CKA])
    (table,) = tables_of(replace(whole, rows=whole.rows[:-1]), chosen)
    assert table[2] == [[0, 0.0, 1.0, 2.0], [5, 3.0, 4.0, None]]


def test_too_many_columns_are_a_table_for_each_metric(options_of):
    chosen = options_of(splits=("test",), all_pairs=True)
    metrics = [ORIGINAL_CKA, ORIGINAL_RSA]
    assert len(tables_of(result_of(chosen, metrics), chosen)) == 1
    cka, _, knn = tables_of(result_of(chosen, [*metrics, "knn k=10"]), chosen)
    assert (cka[0], knn[0]) == ("CKA on test (h)", "knn k=10 on test (h)")
    assert cka[1] == ["epoch", "cl-nscl", "cl-scl", "cl-ce", "nscl-scl", "nscl-ce", "scl-ce"]
    assert cka[2][0] == [0, 0.0, 3.0, 6.0, 9.0, 12.0, 15.0]
    assert knn[2][1][1:3] == [20.0, 23.0]


def test_intervals_are_shown_after_the_last_epoch_and_p_values_where_asked_for(options_of):
    plain = options_of(splits=("test",))
    title, columns, lines = last_table(result_of(plain, [DEBIASED_CKA]), plain)
    assert title == "After epoch 5, with 90 % intervals"
    assert columns == ["split", "objective", "metric", "value", "low", "high", "images"]
    assert lines[0] == ["test", "nscl", "debiased CKA", 3.0, None, 3.5, 90]
    assert [line[1] for line in lines] == ["nscl", "scl", "ce"]
    shuffled = options_of(splits=("test",), permutations=3, all_pairs=True)
    _, columns, lines = last_table(result_of(shuffled, [DEBIASED_CKA]), shuffled)
    assert columns == ["split", "pair", "metric", "value", "low", "high", "p", "images"]
    assert lines[-1] == ["test", "scl-ce", "debiased CKA", 11.0, None, 11.5, 0.25, 90]


# --- what is run


@pytest.fixture
def run(train_once, call):
    """cl, nscl and ce, weights after epochs 0, 1 and 2, in ./runs, where `call` runs."""
    shutil.copytree(train_once("objectives=[cl, nscl, ce]").path, RUN)
    return RunDirectory(RUN)


def test_json_is_one_document_with_the_rows_that_were_asked_for(call, run):
    call("eval-alignment", "--split", "test", "--epochs", "0,2")
    words = ["--split", "test", "--epochs", "1,2", "--metric", "cka", "--metric", "procrustes"]
    ended = call("eval-alignment", *words, "--permutations", 5, "--confidence", 0.9, "--json")
    assert ended.code == 0
    result = document(ended.stdout)
    assert list(result) == ["run", "representation", "confidence", "evaluated", "rows"]
    assert (result["confidence"], result["evaluated"]) == (0.9, 2)
    found = {(row["epoch"], row["objective"], row["metric"]) for row in result["rows"]}
    asked = itertools.product((1, 2), ("nscl", "ce"), (ORIGINAL_CKA, "procrustes"))
    assert found == set(asked)
    assert len(result["rows"]) == len(found)
    for row in result["rows"]:
        assert list(row) == ["epoch", "split", "representation", "reference", "objective",
                             "metric", "value", "ci_low", "ci_high", "p_value", "num_images",
                             "form", "interval", "note", "num_sampled_images", "num_sampled_pairs",
                             "sample_seed"]  # fmt: skip
        assert row["sample_seed"] is None
        if row["metric"] == "procrustes":
            assert (row["ci_low"], row["ci_high"], row["p_value"]) == (None, None, None)
            assert row["interval"] is None
        else:
            assert row["ci_low"] <= row["value"] <= row["ci_high"]
            assert row["interval"] == "stratified"
            assert row["p_value"] * 6 == pytest.approx(round(row["p_value"] * 6))
    table = read_parquet(run.alignment_table)
    assert set(table["metric"]) == {*USUAL, "procrustes"}, "what was there stays"


def test_features_of_an_evaluation_that_failed_are_gone(call, run):
    words = ["--split", "test", "--metric", "knn k=1000", "--representation", "layer?"]
    ended = call("eval-alignment", *words, "--nproc", 2)
    assert ended.code == 1
    assert ended.stderr.startswith("error: epoch 0, test, encoder.layer1: ")
    assert not run.features.exists()


def test_layers_stand_in_one_table_after_the_last_epoch(call, run):
    words = ["--split", "test", "--representation", "layer?", "--representation", "encoder.layer2"]
    ended = call("eval-alignment", *words, "--metric", "cka")
    assert (ended.code, ended.stderr) == (0, "")
    header = next(line for line in ended.stdout.splitlines() if "objective" in line)
    assert header.split()[:3] == ["split", "layer", "objective"]
    assert set(read_parquet(run.alignment_table)["representation"]) == {
        "encoder.layer1", "encoder.layer2", "encoder.layer3", "encoder.layer4",
    }  # fmt: skip


def test_a_second_time_nothing_is_evaluated_and_the_same_is_shown(call, run):
    words = ["eval-alignment", "--debiased", "--json"]
    first, second = (document(call(*words).stdout) for _ in range(2))
    assert (first.pop("evaluated"), second.pop("evaluated")) == (6, 0)
    assert first == second
    before = snapshot()
    call(*words)
    assert snapshot() == before


def test_tables_and_the_intervals_at_the_end_are_printed(call, run):
    ended = call("eval-alignment", "--all-pairs", "--split", "test", "--permutations", 3)
    assert (ended.code, ended.stderr) == (0, "")
    assert "Similarity on test (h)" in ended.stdout
    assert "After epoch 2, with 95 % intervals" in ended.stdout
    lines = ended.stdout.splitlines()
    header = next(line.split() for line in lines if " low " in line)
    assert header == ["split", "pair", "metric", "value", "low", "high", "p", "images"]
    last = [line.split() for line in lines if line.startswith(" test ")]
    pairs = ["cl-nscl", "cl-ce", "nscl-ce"]
    assert [words[1] for words in last] == [name for name in pairs for _ in range(3)]
    assert lines[-2:] == [
        "stratified intervals: over other images with as many of each class",
        "runs/tiny/alignment: 3 new evaluations",
    ]


def test_a_layer_is_evaluated_and_an_unknown_one_refused(call, run):
    words = ["eval-alignment", "--split", "test", "--epochs", "2"]
    ended = call(*words, "--representation", "encoder.layer2")
    assert "(encoder.layer2)" in ended.stdout
    before = snapshot()
    ended = call(*words, "--representation", "encoder.layr2")
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.startswith(
        "error: --representation: 'encoder.layr2' is no layer; did you mean 'encoder.layer2'?"
    )
    assert snapshot() == before


def test_kept_features_can_be_compared_as_files(call, run):
    words = [
        "--split",
        "test",
        "--epochs",
        "2",
        "--interval",
        "simple",
        "--keep-features",
        "--json",
    ]
    rows = document(call("eval-alignment", *words, "--json").stdout)["rows"]
    folder = run.features / "epoch_0002" / "test_h"
    assert sorted(path.name for path in folder.glob("*.npy")) == ["ce.npy", "cl.npy", "nscl.npy"]
    metrics = [word for name in USUAL for word in ("--metric", name)]
    files = [folder / "cl.npy", folder / "ce.npy"]
    ended = call("compare", *files, *metrics, "--device", "cpu", "--json")
    for score in document(ended.stdout)["scores"]:
        (row,) = [r for r in rows if (r["objective"], r["metric"]) == ("ce", score["metric"])]
        assert score == {key: row[key] for key in score}


def test_a_gpu_that_is_not_there_is_refused(call, run, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ended = call("eval-alignment", "--device", "cuda")
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr == "error: --device: cuda is not available here\n"


def test_features_that_have_no_score_are_one_line_and_exit_code_1(call, run):
    call("eval-alignment", "--split", "test", "--epochs", "2", "--keep-features")
    path = run.features / "epoch_0002" / "test_h" / "ce.npy"
    matrix = np.load(path)
    matrix[7] = 0
    np.save(path, matrix)
    ended = call("eval-alignment", "--split", "test", "--epochs", "2", "--metric", "knn")
    assert ended.code == 1
    message = "error: epoch 2, test, h: ce, row 7: all zeros, so it has no cosine\n"
    assert ended.stderr == message
    assert set(pd.read_parquet(run.alignment_table)["metric"]) == set(USUAL)


def test_cl_is_the_reference_of_all_its_pairs_wherever_the_study_lists_it(
    make_run, make_study, tmp_path
):
    run = make_run(tmp_path / "run", make_study(objectives=["nscl", "cl", "ce"]))
    found = plan(str(run.path), EvalOptions(all_pairs=True))
    assert found.pairs == (("cl", "nscl"), ("cl", "ce"), ("nscl", "ce"))
