import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from alignctl.cli.compare_command import table_of
from alignctl.cli.score_notes import interval_notes
from alignctl.commands.compare import CompareResult, plan
from alignctl.config.metric_configs import ORIGINAL_CKA, ORIGINAL_RSA, USUAL_METRICS, parse_metrics
from alignctl.errors import ConfigError
from alignctl.metrics import compare

NUM_IMAGES = 40


@pytest.fixture
def spaces():
    """Two matrices that are somewhat alike, float32: (40, 6) and (40, 4)."""
    stream = np.random.default_rng(0)
    x = stream.normal(size=(NUM_IMAGES, 6))
    y = np.tanh(x @ stream.normal(size=(6, 4)))
    return x.astype(np.float32), y.astype(np.float32)


@pytest.fixture
def saved(call, spaces):
    """Both in the folder where `call` runs."""
    np.save("x.npy", spaces[0])
    np.savez("y.npz", features=spaces[1], labels=np.arange(NUM_IMAGES))
    return "x.npy", "y.npz"


@pytest.fixture
def refused(call, saved):
    """A function of words: the one line that refuses them; nothing is written or printed."""

    def check(*words, code):
        before = sorted(Path().iterdir())
        ended = call("compare", *words)
        assert (ended.code, ended.stdout) == (code, ""), ended
        (line,) = ended.stderr.splitlines()
        assert sorted(Path().iterdir()) == before
        return line

    return check


def document(text):
    """One JSON document that any reader takes: Python alone writes and reads NaN."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


# --- plans


def plan_of(**options):
    usual = {"metrics": (), "confidence": 0.95, "permutations": 0, "device": "auto"}
    return plan("x.npy", "y.npy", **{**usual, **options})


def test_without_metrics_the_usual_ones_are_meant():
    assert plan_of().metrics == parse_metrics(USUAL_METRICS)
    assert plan_of(metrics=("knn", "cka", "knn k=10")).metrics == parse_metrics(["knn", "cka"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ("cka", "rsaa")}, "metric 'rsaa': 'rsaa' is not a metric; did you mean 'rsa'"),
        ({"confidence": 0.0}, "--confidence: 0 does not lie between 0 and 1"),
        ({"confidence": 1.0}, "--confidence: 1 does not lie between 0 and 1"),
        ({"confidence": float("nan")}, "--confidence: nan does not lie between 0 and 1"),
        ({"permutations": -2}, "--permutations: -2 is less than 0"),
        ({"device": "tpu"}, "--device: 'tpu' is not a device (auto, cpu, cuda)"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_served_is_refused(options, message):
    with pytest.raises(ConfigError) as error:
        plan_of(**options)
    assert str(error.value).startswith(message)


# --- what is found


def test_scores_are_those_of_the_matrices(call, saved, spaces):
    words = ["--permutations", 9, "--confidence", 0.9, "--device", "cpu", "--json"]
    ended = call("compare", *saved, *words)
    assert (ended.code, ended.stderr) == (0, "")
    result = document(ended.stdout)
    found = result.pop("scores")
    assert result == {
        "a": "x.npy", "b": "y.npz:features", "shape_a": [40, 6], "shape_b": [40, 4],
        "confidence": 0.9, "permutations": 9, "features_a": None, "features_b": None,
        "left_out_a": [], "left_out_b": [], "ids": None, "is_joined": False, "row_order": "",
    }  # fmt: skip
    assert found == [asdict(score) for score in compare(*spaces, confidence=0.9, permutations=9)]
    assert len(found) == len(USUAL_METRICS)


@pytest.mark.parametrize("suffix", [".npy", ".pt", ".npz:b"])
def test_any_kind_of_file_gives_the_same_scores(call, saved, spaces, suffix):
    file = f"b{suffix}"
    if suffix == ".pt":
        torch.save(torch.from_numpy(spaces[1]), file)
    elif suffix == ".npy":
        np.save(file, spaces[1])
    else:
        np.savez("b.npz", a=spaces[0], b=spaces[1])
    words = ["--metric", "cka", "--metric", "knn", "--device", "cpu", "--json"]
    result = document(call("compare", "x.npy", file, *words).stdout)
    assert result["b"] == file
    assert result["scores"] == [asdict(score) for score in compare(*spaces, ["cka", "knn"])]


def test_whole_numbers_and_half_precision_can_be_compared(call, spaces):
    whole, half = (10 * spaces[0]).astype(np.int16), spaces[1].astype(np.float16)
    np.save("x.npy", whole)
    np.save("y.npy", half)
    ended = call("compare", "x.npy", "y.npy", "--metric", "rsa", "--device", "cpu", "--json")
    (score,) = document(ended.stdout)["scores"]
    assert score == asdict(compare(whole.astype(np.float64), half, ["rsa"])[0])


def test_a_sample_says_so_in_fields_of_its_own(call, saved):
    words = ["--metric", "knn k=3 images=20", "--metric", "knn k=3", "--json"]
    sampled, whole = document(call("compare", *saved, *words).stdout)["scores"]
    assert sampled["metric"] == "knn k=3 distance=cosine images=20"
    fields = ("num_images", "num_sampled_images", "num_sampled_pairs", "sample_seed")
    assert [sampled[field] for field in fields] == [20, 20, None, 0]
    assert [whole[field] for field in fields] == [40, None, None, None]


def test_a_sample_is_printed_beside_its_metric(call, saved):
    words = ["--metric", "knn k=3 images=20", "--metric", "rsa correlation=kendall pairs=60 seed=1"]
    lines = [line.strip() for line in call("compare", *saved, *words).stdout.splitlines()]
    (header, knn, rsa) = (
        next(line for line in lines if line.startswith(name)) for name in ("metric", "knn", "rsa")
    )
    assert header.split()[-1] == "sample"
    assert knn.endswith("20 images, seed 0")
    assert rsa.endswith("pairs, seed 1")


def test_a_line_for_each_metric_and_the_size_of_both_are_printed(call, saved):
    ended = call("compare", *saved)
    assert (ended.code, ended.stderr) == (0, "")
    title, *lines = (line.rstrip() for line in ended.stdout.splitlines())
    assert title == "Similarity, with 95 % intervals"
    for metric in parse_metrics(USUAL_METRICS):
        assert sum(line.startswith(f" {metric.identifier} ") for line in lines) == 1
    assert lines[-3:] == [
        "simple intervals: over other images of any class",
        "x.npy: 6 features of 40 images",
        "y.npz:features: 4 features of 40 images",
    ]


def test_few_images_have_no_interval_and_a_line_says_why(call, saved, spaces):
    np.save("few.npy", spaces[0][:12])
    words = ["few.npy", "few.npy", "--metric", "cka", "--metric", "rsa", "--metric", "procrustes"]
    ended = call("compare", *words)
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-3] == "no interval: it takes 20 images, not 12 (CKA, RSA)"
    *two, last = document(call("compare", *words, "--json").stdout)["scores"]
    for score in two:
        assert (score["ci_low"], score["ci_high"]) == (None, None)
        assert score["interval"] == "none: it takes 20 images, not 12"
    assert last["interval"] is None


def test_each_kind_of_interval_is_explained_once():
    rows = [
        {"metric": ORIGINAL_CKA, "interval": "stratified"},
        {"metric": ORIGINAL_RSA, "interval": "stratified"},
        {"metric": "cka kernel=linear hsic=debiased batch_size=8 seed=0", "interval": "batches"},
        {"metric": "knn k=10 distance=cosine", "interval": None},
    ]
    assert interval_notes(rows) == [
        "stratified intervals: over other images with as many of each class",
        "intervals of batches: over other batches, of images of any class",
    ]
    assert interval_notes(rows[-1:]) == []


@pytest.mark.parametrize("permutations", [0, 9])
def test_p_values_are_a_column_where_they_were_asked_for(permutations):
    score = {"metric": "rsa", "value": 0.5, "ci_low": 0.4, "ci_high": None,
             "p_value": 0.1, "num_images": 40, "form": "features"}  # fmt: skip
    result = CompareResult("a", "b", [40, 6], [40, 4], 0.9, permutations, [score])
    title, columns, rows = table_of(result)
    assert title == "Similarity, with 90 % intervals"
    p_name, p_value = (["p"], [0.1]) if permutations else ([], [])
    assert columns == ["metric", "value", "low", "high", *p_name, "images", "form"]
    assert rows == [["rsa", 0.5, 0.4, None, *p_value, 40, "features"]]


# --- what is refused


def test_other_images_are_refused(refused, spaces):
    np.save("short.npy", spaces[0][:30])
    line = refused("x.npy", "short.npy", code=2)
    assert line == "error: x.npy has 40 rows and short.npy 30: want the same images"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.npy", "z.npy"], "z.npy: there is no such file; did you mean 'x.npy'?"),
        (["x.npy", "y.npz:feature"], "y.npz: 'feature' is not a key; did you mean 'features'?"),
        (["x.npy:a", "x.npy"], "x.npy: holds one matrix and takes no key, not 'a'"),
        (["x.npy", "y.npz:labels"], "y.npz:labels: shape (40,); want (images, features)"),
    ],
)
def test_what_is_no_matrix_is_refused(refused, words, message):
    assert refused(*words, code=2).startswith(f"error: {message}")


METRICS = ["cka", "rsa", "knn", "procrustes", "rsa correlation=spearman", "cka kernel=rbf", "svcca"]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_missing_is_named_by_row_and_column(refused, spaces, metric, value):
    spaces[0][7, 3] = float(value)
    spaces[0][9, 1] = float("nan")
    np.savez("gap.npz", a=spaces[0], b=spaces[1])
    line = refused("x.npy", "gap.npz:a", "--metric", metric, code=1)
    assert line == f"error: gap.npz:a, row 7, column 3: {value}"


@pytest.mark.parametrize(
    "metric",
    ["rsa", "knn", "rsa correlation=kendall", "cka kernel=cosine", "cka_lower_bound"],
)
def test_a_row_without_direction_is_named_under_cosine(refused, spaces, metric):
    spaces[0][11] = 0
    np.save("zero.npy", spaces[0])
    for words in (["x.npy", "zero.npy"], ["zero.npy", "x.npy"]):
        line = refused(*words, "--metric", metric, code=1)
        assert line == "error: zero.npy, row 11: all zeros, so it has no cosine"


@pytest.mark.parametrize(
    "metric",
    [
        "cka", "cka hsic=debiased", "rsa", "rsa distance=euclidean", "rsa_lower_bound",
        "procrustes", "svcca", "pwcca", "cka kernel=rbf",
    ],
)  # fmt: skip
def test_constant_features_are_named(refused, metric):
    np.save("constant.npy", np.ones((NUM_IMAGES, 3)))
    line = refused("x.npy", "constant.npy", "--metric", metric, code=1)
    assert line.startswith("error: constant.npy: ")


@pytest.mark.parametrize(
    ("num_images", "metric", "message"),
    [
        (1, "cka", "CKA needs at least 2 rows, not 1"),
        (3, "cka hsic=debiased", "debiased CKA needs at least 4 rows, not 3"),
        (2, "rsa", "RSA needs at least 3 rows, not 2"),
        (10, "knn", "k=10 needs more than 10 rows, not 10"),
        (1, "cka_lower_bound", "RSA needs at least 3 rows, not 1"),
    ],
)  # fmt: skip
def test_too_few_images_are_refused(refused, spaces, num_images, metric, message):
    np.save("few.npy", spaces[0][:num_images])
    line = refused("few.npy", "few.npy", "--metric", metric, code=1)
    assert line.startswith("error: ")
    assert message in line


# --- what cannot be computed, and what does not fit


def test_usual_metric_that_cannot_be_computed_is_a_line_with_its_reason(call, saved, spaces):
    spaces[1][3] = 0
    np.savez("y.npz", features=spaces[1])
    shown = call("compare", *saved)
    assert shown.code == 0
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["cka_lower_bound", "-", "-", "-", "40", "features"] in rows
    name = "rsa distance=cosine correlation=pearson"
    reason = "y.npz:features, row 3: all zeros, so it has no cosine"
    assert f"{name}: {reason}" in shown.stdout.splitlines()
    scores = document(call("compare", *saved, "--json").stdout)["scores"]
    by_name = {score["metric"]: score for score in scores}
    assert len(scores) == len(USUAL_METRICS)
    assert (by_name[name]["value"], by_name[name]["note"]) == (None, reason)
    assert by_name["cka kernel=linear hsic=biased"]["value"] > 0
    ended = call("compare", *saved, "--metric", "cka", "--metric", "rsa")
    assert (ended.code, ended.stdout, ended.stderr) == (1, "", f"error: {reason}\n")


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
from alignctl.cli.app import app
app()
"""


def limited(gibibytes, *words):
    """The command with so much address space, which a limit in this process would take from all."""
    line = [sys.executable, "-c", LIMITED, str(int(gibibytes * 2**30)), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(line, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS ignores the limit")
def test_features_that_do_not_fit_the_memory_end_in_one_line(call):
    # A file with holes: nothing of it is on the disk.
    maps = [np.lib.format.open_memmap(name, "w+", np.float32, (2_000, 2_000_000))
            for name in ("a.npy", "b.npy")]  # fmt: skip
    del maps
    ended = limited(8, "compare", "a.npy", "b.npy", "--metric", "cka", "--device", "cpu")
    assert (ended.returncode, ended.stdout) == (1, ""), ended.stderr
    (line,) = ended.stderr.splitlines()
    assert "memory" in line


@pytest.mark.skipif(sys.platform != "linux", reason="macOS ignores the limit")
def test_wide_features_take_memory_in_proportion_to_themselves(call):
    stream = np.random.default_rng(0)
    x = stream.normal(size=(150, 25_088)).astype(np.float32)
    np.save("a.npy", x)
    np.save("b.npy", x[:, :12_544] + stream.normal(size=(150, 12_544)).astype(np.float32))
    # 15 MB of features; a product of them, (25088, 25088) in float64, is 5 GB.
    ended = limited(4, "compare", "a.npy", "b.npy", "--permutations", "3", "--json")
    assert ended.returncode == 0, ended.stderr
    scores = document(ended.stdout)["scores"]
    missing = [score["metric"] for score in scores if score["value"] is None]
    assert missing == ["pwcca"]
