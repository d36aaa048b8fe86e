"""What is a feature and what an id in files of columns."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from alignctl.errors import ConfigError
from alignctl.features.feature_files import open_features
from alignctl.features.formats.choice import Choice
from alignctl.features.formats.ids import COUNTED, NAMED, NUMBERED

N = 30


@pytest.fixture
def frame():
    values = np.random.default_rng(0).normal(size=(N, 3))
    return pd.DataFrame(values, columns=["f0", "f1", "f2"])


def ids_of(file):
    return {ids.name: ids.values.tolist() for ids in file.ids}


def saved(table, name="A.parquet"):
    if isinstance(table, pd.DataFrame):
        getattr(table, f"to_{name.split('.')[1]}")(name)
    else:
        pq.write_table(table, name)
    return name


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(name, **choice):
    with pytest.raises(ConfigError) as error:
        open_features(name, Choice(**choice))
    return str(error.value)


NUMBERS = list(range(1000, 1000 + N))
TEXTS = [f"{number}.png" for number in NUMBERS]


@pytest.mark.parametrize("values", [NUMBERS, TEXTS, pd.Categorical(TEXTS), np.float64(NUMBERS)],
                         ids=["numbers", "text", "categories", "floats"])  # fmt: skip
def test_a_column_of_ids_beside_features_is_no_feature(frame, values):
    file = open_features(saved(frame.assign(image_id=values)))
    assert file.columns == ("f0", "f1", "f2")
    assert ids_of(file)["image_id"] == (TEXTS if isinstance(values[0], str) else NUMBERS)
    assert torch.equal(file.rows(slice(None)), torch.tensor(frame.to_numpy()))


def test_ids_without_a_telling_name_are_those_that_tell_all_rows_apart(frame):
    frame = frame.assign(n=NUMBERS, split=["a", "b"] * 15, cell=[1, 2, 3] * 10, seen=[True] * N)
    file = open_features(saved(frame))
    assert file.columns == ("f0", "f1", "f2")
    assert list(ids_of(file)) == ["index", "n"]
    assert file.left_out == ("split", "cell", "seen")


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (pd.Index(TEXTS), {"index": TEXTS}),
        (pd.Index(TEXTS, name="file"), {"file": TEXTS}),
        (pd.Index(NUMBERS), {"index": NUMBERS}),
        (pd.RangeIndex(7, 7 + N, name="image"), {"image": list(range(7, 7 + N))}),
        (pd.RangeIndex(50, 50 - N, -1), {"index": list(range(50, 50 - N, -1))}),
        (
            pd.MultiIndex.from_arrays([TEXTS, [1, 2] * 15], names=["file", None]),
            {"file, index": [f'["{one}", "{1 + i % 2}"]' for i, one in enumerate(TEXTS)]},
        ),
    ],
    ids=["unnamed", "named", "numbers", "named range", "range", "levels"],
)
def test_the_index_of_pandas_holds_ids(frame, index, expected):
    file = open_features(saved(frame.set_index(index)))
    assert file.columns == ("f0", "f1", "f2")
    assert ids_of(file) == expected
    assert file.left_out == ()


@pytest.mark.parametrize(
    ("values", "rank"),
    [(range(N), COUNTED), (range(N, 0, -1), NUMBERED), ([*NUMBERS[:-1], 7], NUMBERED),
     (TEXTS, NAMED)],
)  # fmt: skip
@pytest.mark.parametrize("name", [None, "index", "row"])
def test_an_index_of_numbers_says_where_rows_stood_and_one_of_text_what_they_are(
    frame, name, values, rank
):
    file = open_features(saved(frame.set_index(pd.Index(values, name=name))))
    assert [ids.rank for ids in file.ids] == [rank]
    if name is not None:
        file = open_features(saved(frame.assign(**{name: values}), "B.csv"))
        assert [ids.rank for ids in file.ids if ids.name == name] == [rank]
    index = pd.Index(values, name="image")
    assert [ids.rank for ids in open_features(saved(frame.set_index(index))).ids] == [NAMED]


def test_an_index_of_labels_is_left_out(frame):
    file = open_features(saved(frame.set_index(pd.Index([4, 2] * 15, name="label"))))
    assert (ids_of(file), file.left_out) == ({}, ("label",))
    file = open_features(saved(frame.set_index(pd.RangeIndex(7, 7 + N, name="label"))))
    assert (ids_of(file), file.left_out) == ({}, ())


def test_ids_stand_beside_a_column_of_lists():
    table = {"x": [[1.0, 2.0]] * N, "path": TEXTS, "label": [3] * N, "score": [0.5] * N}
    file = open_features(saved(pa.table(table)))
    assert (file.num_columns, file.columns) == (2, ("x",))
    assert ids_of(file) == {"path": TEXTS}
    assert file.left_out == ("label", "score")


def test_whole_numbers_are_features_where_all_are_and_ids_and_labels_have_names(frame):
    quantised = (frame * 20).astype("int8").assign(image_id=NUMBERS, label=1)
    file = open_features(saved(quantised))
    assert file.columns == ("f0", "f1", "f2")
    assert file.left_out == ("label",)
    assert ids_of(file)["image_id"] == NUMBERS


@pytest.mark.parametrize(
    "columns",
    [
        {"f0": [1, 1, 2], "f1": [3, 3, 3], "n": [7, 8, 9]},
        {"f0": [1, 1, 2], "f1": [3, 3, 3], "n": [7, 7, 9]},
        {"a": [1, 1, 2], "n": [70, 80, 95]},
        {"a": [1, 4, 2], "n": [7, 9, 8]},
        {"0": [1.5, 2.5, 3.5], "n1": [1.5, 2.5, 3.5], "1": [2, 2, 1]},
    ],
    ids=["distinct", "repeated", "tells rows apart", "counts rows", "unnamed"],
)
def test_whole_numbers_that_may_be_anything_are_refused_with_what_settles_it(columns):
    doubtful = "1" if "1" in columns else "n"
    name = saved(pa.table(columns))
    assert refused(name) == (
        f"A.parquet: whole numbers that may be features, ids or labels: column {doubtful}; "
        "say which with --features PATTERN (--features '*' takes all) or --ids COLUMN"
    )
    assert open_features(name, Choice(features=("*",))).num_columns == len(columns)
    others = tuple(column for column in columns if column != doubtful)
    assert open_features(name, Choice(ids=doubtful)).columns == others


def test_whole_numbers_without_numbered_names_can_be_features():
    file = open_features(saved(pa.table({"a": [5, 5, 2], "b": [9, 1, 1]})))
    assert file.columns == ("a", "b")


def test_floats_named_like_ids_that_are_no_whole_numbers_are_features(frame):
    file = open_features(saved(frame.rename(columns={"f1": "refractive_index"})))
    assert file.columns == ("f0", "refractive_index", "f2")


def test_the_column_asked_for_holds_the_ids_and_none_means_none(frame):
    name = saved(frame.assign(image_id=NUMBERS, label=TEXTS).set_index(pd.Index(TEXTS)))
    assert list(ids_of(open_features(name, Choice(ids="label")))) == ["label"]
    assert list(ids_of(open_features(name, Choice(ids="index")))) == ["index"]
    file = open_features(name, Choice(ids="none"))
    assert (file.ids, file.columns) == ((), ("f0", "f1", "f2"))
    assert file.left_out == ("image_id", "label", "__index_level_0__")


def test_a_column_asked_for_that_holds_no_ids_is_refused(frame):
    name = saved(frame.assign(name=["a", None, *TEXTS[2:]]))
    assert refused(name, ids="name") == "A.parquet, row 1, column 'name': no id"
    assert refused(name, ids="f1").endswith("column 'f1': want ids that are text or whole numbers")


@pytest.mark.parametrize("values", [["a", None, *TEXTS[2:]], pd.array([None, *NUMBERS[1:]])],
                         ids=["text", "numbers"])  # fmt: skip
def test_ids_that_some_rows_lack_are_refused_unless_others_are_whole(frame, values):
    frame = frame.assign(path=values)
    assert refused(saved(frame)) == (
        "A.parquet, column 'path': some rows have no id; --ids COLUMN names other ids, "
        "--ids none compares rows as they lie"
    )
    file = open_features(saved(frame.assign(image_id=NUMBERS)))
    assert ids_of(file).keys() == {"index", "image_id"}
    assert file.left_out == ("path",)


def test_patterns_that_fit_no_column_or_lists_and_numbers_are_refused(frame):
    name = saved(frame.assign(n=NUMBERS))
    assert refused(name, features=("g*", "h")).startswith(
        "A.parquet: no column of numbers is named g* or h (f0: double, f1: double, "
    )
    name = saved(pa.table({"x": [[1.0]], "f0": [1.0]}))
    assert refused(name, features=("*",)) == (
        "A.parquet: columns of lists (x) and of numbers cannot be features together; "
        "choose with --features"
    )
    assert open_features(name, Choice(features=("f*",))).columns == ("f0",)


@pytest.mark.parametrize("suffix", ["feather", "arrow", "stream.arrow"])
def test_other_files_of_arrow_are_read_as_parquet_is(frame, suffix):
    table = pa.Table.from_pandas(frame.set_index(pd.Index(TEXTS, name="file")))
    name, new = f"A.{suffix}", pa.ipc.new_stream if "stream" in suffix else pa.ipc.new_file
    with pa.OSFile(name, "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=8)
    file = open_features(name)
    assert ids_of(file) == {"file": TEXTS}
    expected = torch.tensor(frame.to_numpy())
    assert torch.equal(file.rows(slice(5, 20)), expected[5:20])
    assert torch.equal(file.gather(np.array([29, 0, 8])), expected[[29, 0, 8]])


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(4), pa.decimal128(9)])
def test_ids_may_be_bytes_or_decimal_numbers(frame, kind):
    numbers = range(500, 500 + N)
    values = [Decimal(n) if pa.types.is_decimal(kind) else n.to_bytes(4, "big") for n in numbers]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table.append_column("id", pa.array(values, kind)), "A.parquet")
    file = open_features("A.parquet")
    assert file.columns == ("f0", "f1", "f2")
    expected = [str(one) if pa.types.is_decimal(kind) else one.hex() for one in values]
    assert ids_of(file)["id"] == expected
