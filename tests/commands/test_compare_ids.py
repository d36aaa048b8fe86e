"""`compare` of files whose rows have ids: what is joined, said and refused."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from alignctl.metrics import compare

N = 60
COLUMNS = [f"f{number}" for number in range(4)]


@pytest.fixture
def spaces():
    """Two spaces that are rotations of each other but for some noise, and an order of rows."""
    stream = np.random.default_rng(0)
    x = stream.normal(size=(N, 4))
    y = x @ np.linalg.qr(stream.normal(size=(4, 4)))[0] + 0.1 * stream.normal(size=(N, 4))
    return x, y, stream.permutation(N)


IDS = np.arange(500, 500 + N)
PATHS = np.array([f"{number}.png" for number in IDS])


def frame_of(values, **columns):
    return pd.DataFrame(values, columns=COLUMNS).assign(**columns)


def write_number_column(name, values, order):
    frame_of(values, image_id=IDS).iloc[order].to_parquet(f"{name}.parquet", index=False)
    return f"{name}.parquet"


def write_text_column(name, values, order):
    frame_of(values, path=PATHS).iloc[order].to_parquet(f"{name}.parquet", index=False)
    return f"{name}.parquet"


def write_index(name, values, order):
    frame_of(values).set_index(pd.Index(PATHS)).iloc[order].to_parquet(f"{name}.parquet")
    return f"{name}.parquet"


def write_plain_index(name, values, order):
    frame_of(values).iloc[order].to_parquet(f"{name}.parquet")
    return f"{name}.parquet"


def write_lists(name, values, order):
    table = {"id": IDS[order], "x": list(values[order]), "label": order % 3}
    pq.write_table(pa.table(table), f"{name}.parquet", row_group_size=7)
    return f"{name}.parquet"


def write_csv(name, values, order):
    frame_of(values, image_id=IDS).iloc[order].to_csv(f"{name}.csv")
    return f"{name}.csv"


def write_npz(name, values, order):
    np.savez(f"{name}.npz", features=values[order], ids=IDS[order])
    return f"{name}.npz"


def write_pt(name, values, order):
    held = {"features": torch.tensor(values[order]), "names": [str(i) for i in IDS[order]]}
    torch.save(held, f"{name}.pt")
    return f"{name}.pt"


WRITERS = [function for name, function in globals().items() if name.startswith("write_")]
METRICS = ["cka", "cka hsic=debiased", "rsa", "knn k=3", "procrustes"]


def scores_of(call, *words):
    metrics = [word for metric in METRICS for word in ("--metric", metric)]
    ended = call("compare", *words, *metrics, "--device", "cpu", "--json")
    assert ended.code == 0, ended
    return json.loads(ended.stdout), ended.stderr


@pytest.mark.parametrize("write", WRITERS)
def test_files_in_another_order_have_the_scores_of_the_same_images(call, spaces, write):
    x, y, order = spaces
    words = write("a", x, np.arange(N)), write("b", y, order)
    found, said = scores_of(call, *words)
    expected = [score.value for score in compare(x, y, METRICS)]
    assert [score["value"] for score in found["scores"]] == pytest.approx(expected, abs=1e-12)
    assert expected[0] > 0.9
    assert found["is_joined"]
    assert found["shape_a"] == found["shape_b"] == [N, 4]
    assert said == f"note: {found['row_order']}\n"
    assert found["row_order"].endswith(f" were put in the order of {found['a']}")
    found, _ = scores_of(call, *words, "--ids", "none")
    assert (found["ids"], found["is_joined"]) == (None, False)
    expected = [score.value for score in compare(x, y[order], METRICS)]
    assert [score["value"] for score in found["scores"]] == pytest.approx(expected, abs=1e-12)


def test_kinds_of_files_and_of_ids_may_differ(call, spaces):
    x, y, order = spaces
    pairs = [(write_number_column, write_pt), (write_csv, write_lists), (write_npz, write_csv)]
    expected = [score.value for score in compare(x, y, METRICS)]
    for first, second in pairs:
        found, _ = scores_of(call, first("a", x, np.arange(N)), second("b", y, order))
        assert [score["value"] for score in found["scores"]] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("write", WRITERS)
def test_ids_never_count_as_features(call, spaces, write):
    x, _, order = spaces
    unrelated = np.random.default_rng(1).normal(size=(N, 4))
    found, said = scores_of(call, write("a", x, order), write("b", unrelated, order))
    expected = [score.value for score in compare(x, unrelated, METRICS)]
    assert [score["value"] for score in found["scores"]] == pytest.approx(expected, abs=1e-12)
    assert (found["is_joined"], said) == (False, "")
    assert found["row_order"].endswith("the same in the same order")


def test_what_was_taken_for_what_is_printed(call, spaces):
    x, y, order = spaces
    frame_of(x, image_id=IDS, label=IDS % 3, f4=0.5, fold=1).to_parquet("a.parquet")
    write_npz("b", y, order)
    ended = call("compare", "a.parquet", "b.npz", "--metric", "cka")
    joined = "ids: image_id and ids; rows of b.npz:features were put in the order of a.parquet"
    assert ended.stderr == f"note: {joined}\n"
    assert ended.stdout.splitlines()[-3:] == [
        "a.parquet: 5 features of 60 images (f0, f1, ..., f4); left out: label, fold",
        "b.npz:features: 4 features of 60 images",
        joined,
    ]
    ended = call("compare", "a.parquet", "a.parquet", "--metric", "cka", "--json")
    found = json.loads(ended.stdout)
    assert (found["features_a"], found["left_out_b"]) == ([*COLUMNS, "f4"], ["label", "fold"])
    assert found["ids"] == ["image_id", "image_id"]
    assert found["row_order"] == "ids: image_id, the same in the same order"


@pytest.mark.parametrize("write", ["to_parquet", "to_feather"])
def test_ids_as_floats_among_features_are_refused_with_what_settles_it(call, spaces, write):
    x, y, _ = spaces
    np.save("y.npy", y)
    frame = pd.DataFrame(np.c_[IDS, x], columns=list("01234"))
    getattr(frame, write)("x.feather" if "feather" in write else "x.parquet")
    words = ["x.feather" if "feather" in write else "x.parquet", "y.npy", "--metric", "cka"]
    ended = call("compare", *words)
    assert ended.stderr == (
        f"error: {words[0]}: whole numbers that may be features, ids or labels: column 0; "
        "say which with --features PATTERN (--features '*' takes all) or --ids COLUMN\n"
    )
    ended = call("compare", *words, "--ids", "0")
    assert f"{words[0]}: 4 features of 60 images (1, 2, 3, 4)" in ended.stdout
    ended = call("compare", *words, "--features", "*")
    assert f"{words[0]}: 5 features of 60 images (0, 1, ..., 4)" in ended.stdout


def test_a_column_like_ids_in_a_file_without_names_is_a_notice(call, spaces):
    x, y, _ = spaces
    np.save("x.npy", np.c_[x, IDS])
    np.save("y.npy", np.c_[y, IDS % 7, np.zeros(N)])  # whole, but no ids
    ended = call("compare", "x.npy", "y.npy", "--metric", "cka")
    assert ended.stderr == (
        "note: x.npy: column 4 holds another whole number in each of the first rows, as ids do, "
        "and was counted as a feature\n"
    )
    np.save("x.npy", np.c_[(20 * x).round(), IDS])  # quantised: nothing is known
    assert call("compare", "x.npy", "y.npy", "--metric", "cka").stderr == ""


def test_patterns_choose_the_features_of_both_files(call, spaces):
    x, y, _ = spaces
    frame_of(x, n=IDS).to_parquet("a.parquet")
    frame_of(y, n=IDS).to_csv("b.csv", index=False)
    words = ["a.parquet", "b.csv", "--features", "f[01]", "--features", "f3", "--metric", "cka"]
    found = json.loads(call("compare", *words, "--json").stdout)
    assert found["features_a"] == found["features_b"] == ["f0", "f1", "f3"]
    columns = [0, 1, 3]
    expected = compare(x[:, columns], y[:, columns], ["cka"])[0].value
    assert found["scores"][0]["value"] == pytest.approx(expected, abs=1e-12)


def test_ids_of_one_file_alone_are_a_notice(call, spaces):
    x, y, order = spaces
    np.save("b.npy", y)
    ended = call("compare", write_number_column("a", x, order), "b.npy", "--metric", "cka")
    assert (ended.code, ended.stderr) == (
        0,
        "note: a.parquet has ids (image_id) and b.npy has none: rows are compared as they lie\n",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--ids", "imag_id"],
            "--ids: 'imag_id' is neither a column nor a key of a.parquet or b.npy; "
            "did you mean 'image_id'? (f0, f1, f2, f3, image_id)",
        ),
        (["--features", "g*"], "a.parquet: no column of numbers is named g* (f0: double, "),
    ],
)
def test_options_that_name_nothing_are_refused(call, spaces, words, said):
    x, y, order = spaces
    np.save("b.npy", y)
    ended = call("compare", write_number_column("a", x, order), "b.npy", *words)
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: {said}")


def test_patterns_are_of_no_use_to_files_without_columns(call, spaces):
    np.save("a.npy", spaces[0])
    ended = call("compare", "a.npy", "a.npy", "--features", "f*")
    assert ended.stderr == "error: --features: neither a.npy nor a.npy has named columns\n"


def test_different_images_are_refused_before_the_number_of_rows_is(call, spaces):
    x, y, order = spaces
    write_number_column("a", x, np.arange(N))
    write_number_column("b", y, order[5:])
    ended = call("compare", "a.parquet", "b.parquet", "--metric", "cka")
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.startswith(
        "error: ids (image_id) of different images: 5 of 60 ids of a.parquet are not in b.parquet ("
    )


def test_errors_name_the_order_of_rows_that_were_joined(call, spaces):
    x, y, order = spaces
    y[7] = 0
    write_number_column("a", x, np.arange(N))
    write_number_column("b", y, order)
    ended = call("compare", "a.parquet", "b.parquet", "--metric", "knn")
    assert ended.stderr.splitlines()[-1] == (
        "error: b.parquet, as ordered by a.parquet, row 7: all zeros, so it has no cosine"
    )


def test_the_plan_shows_what_was_asked_for(call, spaces):
    ended = call("compare", "a.csv", "b.csv", "--ids", "path", "--features", "f*", "--dry-run")
    assert "ids: path\nfeatures:\n- f*\n" in ended.stdout
    ended = call("compare", "a.csv", "b.csv", "--dry-run")
    assert "ids: auto (columns that look like ids)\n" in ended.stdout
