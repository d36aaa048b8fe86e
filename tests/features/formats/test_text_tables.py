"""Files of text: separators, first lines, ids and what is missing."""

import numpy as np
import pandas as pd
import pytest
import torch

from alignctl.errors import ConfigError
from alignctl.features.feature_files import open_features

N = 12
NAMES = [f"image {number}.png" for number in range(N)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def frame():
    values = np.random.default_rng(0).normal(size=(N, 3))
    return pd.DataFrame(values, columns=["f0", "f1", "f2"])


def written(text, name="A.csv", encoding="utf-8"):
    with open(name, "w", encoding=encoding) as file:  # noqa: PTH123
        file.write(text)
    return name


def refused(text):
    with pytest.raises(ConfigError) as error:
        open_features(written(text))
    return str(error.value)


def assert_holds(file, frame, columns=("f0", "f1", "f2")):
    expected = torch.tensor(frame.to_numpy())
    assert file.columns == columns
    assert torch.equal(file.rows(slice(None)), expected)
    assert torch.equal(file.rows(slice(3, 5)), expected[3:5])
    assert torch.equal(file.gather(np.array([9, 2])), expected[[9, 2]])


@pytest.mark.parametrize("name", ["A.csv", "A.tsv", "A.CSV"])
@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_any_separator_and_byte_order_mark_is_understood(frame, name, separator, encoding):
    frame.to_csv(name, sep=separator, encoding=encoding, index=False)
    assert_holds(open_features(name), frame)


def test_spaces_quotes_and_empty_lines_are_no_part_of_what_is_read(frame):
    rows = "\n".join(f'"{name}" , {" , ".join(map(repr, row))} ' for name, row in
                     zip(NAMES, frame.to_numpy().tolist(), strict=True))  # fmt: skip
    file = open_features(written(f'\n "path" , f0 , f1,f2\n{rows}\n\n'))
    assert_holds(file, frame)
    assert [ids.name for ids in file.ids] == ["path"]
    assert [text.strip() for text in file.ids[0].values] == NAMES


def test_a_first_line_of_numbers_is_a_row(frame):
    np.savetxt("A.csv", frame.to_numpy(), delimiter=",", fmt="%.17g")
    assert_holds(open_features("A.csv"), frame, ("0", "1", "2"))


def test_the_first_line_that_pandas_writes_for_unnamed_columns_is_no_row(frame):
    frame.columns = range(3)
    frame.to_csv("A.csv", index=False)
    file = open_features("A.csv")
    assert_holds(file, frame, ("0", "1", "2"))
    assert file.note == "its first line counts the columns, and was taken as their names"


def test_names_that_numpy_writes_behind_a_hash_are_no_row(frame):
    np.savetxt("A.csv", frame.to_numpy(), delimiter=",", fmt="%.17g", header="f0,f1,f2")
    assert_holds(open_features("A.csv"), frame)
    np.savetxt("A.csv", frame.to_numpy(), delimiter=",", fmt="%.17g", header="made on a Monday")
    assert_holds(open_features("A.csv"), frame, ("0", "1", "2"))


@pytest.mark.parametrize("kind", ["pandas", "R"])
def test_names_of_rows_are_ids(frame, kind):
    frame.index = NAMES
    frame.to_csv("A.csv", index_label=False if kind == "R" else None)
    file = open_features("A.csv")
    assert_holds(file, frame)
    assert [(ids.name, ids.values.tolist()) for ids in file.ids] == [("index", NAMES)]


def test_ids_without_a_first_line_are_recognised(frame):
    for ids in (NAMES, range(5000, 5000 + N), [f"{number / 1:.1f}" for number in range(N)]):
        pd.concat([pd.Series(ids), frame], axis=1).to_csv("A.csv", index=False, header=False)
        file = open_features("A.csv")
        assert_holds(file, frame, ("1", "2", "3"))
        assert [one.name for one in file.ids] == ["0"]


def test_zeros_before_a_number_are_part_of_an_id(frame):
    frame.assign(image_id=[f"{number:05}" for number in range(N)]).to_csv("A.csv", index=False)
    file = open_features("A.csv")
    assert_holds(file, frame)
    assert file.ids[0].values.tolist()[:2] == ["00000", "00001"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("f0,f1\n1.5,2\n0.5,\n", "A.csv, row 1, column 'f1': no value"),
        ("1.5,2.5\nnan,3.5\n", "A.csv, row 1, column '0': no value"),
        ("f0,f1\n1.5,2\n0.5,?\n2.5,3\n", "A.csv, row 1, column 'f1': '?' is no number"),
        ("f0,f1\n1.5,2\n0.5,3,4\n", "A.csv: cannot be read: "),
        ("f0,f1\n", "A.csv: cannot be read: "),
        ("", "A.csv: cannot be read: "),
        ("a;b\n0,5;0,7\n0,1;0,2\n", "A.csv: cannot be read: it holds no rows of numbers (with"),
        ("0.5,1.5,3\n1.5,2.5,4\n2.5,0.5,3\n", "A.csv: whole numbers that may be features, ids"),
    ],
    ids=["gap", "nan", "text", "longer", "no rows", "empty", "commas", "labels"],
)
def test_what_cannot_be_read_is_named_by_its_place(text, said):
    assert refused(text).startswith(said)
    assert "\n" not in refused(text)


def test_a_header_without_rows_is_said_to_be_one(tmp_path):
    (tmp_path / "A.csv").write_text("a,b\n")
    with pytest.raises(ConfigError, match=r"A.csv: .*it has a header, and no rows below it$"):
        open_features(str(tmp_path / "A.csv"))
