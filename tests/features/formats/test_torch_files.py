"""Lists and numpy's arrays in files of torch.save."""

from pathlib import Path

import numpy as np
import pytest
import torch

from alignctl.errors import ConfigError
from alignctl.features.feature_files import open_features
from alignctl.features.formats.choice import Choice
from alignctl.features.formats.pickled_numpy import PlainArray, PlainDtype

N = 20


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def matrix():
    return torch.randn(N, 3, generator=torch.Generator().manual_seed(0))


def opened(held, key="", **choice):
    torch.save(held, "A.pt")
    return open_features(f"A.pt{key}", Choice(**choice))


def refused(held, **choice):
    with pytest.raises(ConfigError) as error:
        opened(held, **choice)
    return str(error.value)


def batches_of(matrix, size=8):
    return [part.clone() for part in matrix.split(size)]


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("convert", [lambda part: part, lambda part: part.numpy()])
@pytest.mark.parametrize("key", [None, "x"])
def test_batches_are_one_matrix(matrix, kind, convert, key):
    held = kind(convert(part) for part in batches_of(matrix))
    file = opened(held if key is None else {key: held, "epoch": 3})
    assert (file.num_rows, file.num_columns) == (N, 3)
    assert "a list of 3 matrices, taken as batches of rows" in file.note
    for part in (slice(None), slice(6, 17), slice(8, 8), slice(19, 40)):
        assert torch.equal(file.rows(part), matrix[part])
    order = np.random.default_rng(0).permutation(N)
    assert torch.equal(file.gather(order), matrix[order])


def test_a_matrix_of_a_list_can_be_named(matrix):
    file = opened(batches_of(matrix), ":1")
    assert torch.equal(file.rows(slice(None)), matrix[8:16])
    assert file.note == ""


def test_one_matrix_in_a_list_is_no_guess(matrix):
    file = opened([matrix])
    assert (file.num_rows, file.note) == (N, "")


def test_batches_of_several_dtypes_share_one_that_holds_them_all(matrix):
    held = [torch.ones(2, 3, dtype=torch.float16), matrix, torch.ones(1, 3, dtype=torch.int64)]
    file = opened(held)
    assert file.rows(slice(0, 1)).dtype == file.rows(slice(0, 3)).dtype == torch.float64


def test_a_list_of_features_and_labels_is_no_list_of_batches(matrix):
    file = opened((matrix, torch.arange(N)))
    assert file.name == "A.pt:0"
    assert torch.equal(file.rows(slice(None)), matrix)


def test_matrices_of_other_widths_have_to_be_named(matrix):
    said = refused([matrix, matrix[:, :2]])
    assert said == "A.pt: holds 2 matrices; name one as A.pt:KEY (0, 1)"


@pytest.mark.parametrize(
    "ids",
    [
        [f"{number}.png" for number in range(N)],
        np.array([f"{number}.png" for number in range(N)]),
        np.array([f"{number}.png" for number in range(N)], object),
        np.array([b"%d.png" % number for number in range(N)]),
    ],
    ids=["list", "text", "objects", "bytes"],
)
def test_texts_beside_a_matrix_are_ids(matrix, ids):
    file = opened({"features": matrix, "names": ids, "labels": list(range(N))})
    (found,) = file.ids
    assert (found.name, found.values.tolist()) == ("names", [f"{i}.png" for i in range(N)])


@pytest.mark.parametrize(
    "ids",
    [torch.arange(N), np.arange(N, dtype=np.uint8), list(range(N)), list(torch.arange(N).split(8))],
    ids=["tensor", "numpy", "list", "batches"],
)
def test_whole_numbers_beside_a_matrix_are_ids_where_they_are_named_so(matrix, ids):
    (found,) = opened({"features": matrix, "ids": ids}).ids
    assert found.values.tolist() == list(range(N))
    assert opened({"features": matrix, "labels": ids, "order": ids}).ids == ()
    (found,) = opened({"features": matrix, "labels": ids}, ids="labels").ids
    assert found.values.tolist() == list(range(N))


def test_ids_of_another_length_are_those_of_something_else(matrix):
    held = {"features": matrix, "ids": torch.arange(N + 1)}
    assert opened(held).ids == ()
    assert refused(held, ids="ids") == (
        "A.pt:ids: holds int64 (21,); want 20 ids, text or whole numbers"
    )


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i8", "u1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_arrays_are_read_as_tensors_are(dtype, order):
    values = np.asarray(np.arange(60).reshape(N, 3) % 2, dtype, order=order)
    for held, key in ((values, ""), ({"x": values, "acc": np.float32(0.5)}, ":x")):
        file = opened(held, key)
        rows = file.rows(slice(2, 9))
        assert rows.dtype == (torch.float64 if values.dtype.kind != "f" else rows.dtype)
        assert rows.numpy().tolist() == values[2:9].tolist()
        assert file.gather(np.array([7, 0])).numpy().tolist() == values[[7, 0]].tolist()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((2, 2), complex), "holds complex128"),
        (np.array([[{}, 1]], object), "holds an array of neither numbers nor text"),
        (np.zeros((2, 2), "M8[s]"), "holds an array of neither numbers nor text"),
        (np.zeros((2, 2), [("a", "f4")]), "holds an array of neither numbers nor text"),
    ],
    ids=["complex", "objects", "dates", "fields"],
)
def test_numpy_arrays_of_anything_else_are_refused(values, said):
    assert refused({"x": values}).startswith(f"A.pt:x: {said}")


class _Hostile:
    def __reduce__(self):
        return (Path.touch, (Path("was run"),))


@pytest.mark.parametrize("first", [True, False])
def test_a_hostile_pickle_beside_numpy_arrays_is_refused_and_not_run(first):
    held = [("a", _Hostile()), ("b", np.zeros((2, 2)))][:: 1 if first else -1]
    assert "refused: it holds more than tensors (" in refused(dict(held))
    assert not Path("was run").exists()


def test_bytes_are_never_taken_for_objects():
    dtype = PlainDtype("O8", False, True)
    dtype.__setstate__((3, "|", None, None, None, -1, -1, 0))  # as a hostile file would
    array = PlainArray()
    array.__setstate__((1, (1,), dtype, False, b"\x01" * 8))
    assert array.array is None


@pytest.mark.parametrize("held", [
    [(torch.arange(4.0).reshape(2, 2), torch.zeros(2)), (torch.arange(4.0, 6).reshape(1, 2), 1)],
    [{"KEY": torch.arange(4.0).reshape(2, 2)}, {"KEY": torch.arange(4.0, 6).reshape(1, 2)}],
    [torch.arange(2.0), torch.arange(2.0, 4), torch.arange(4.0, 6)],
], ids=["pairs", "dicts", "rows"])  # fmt: skip
def test_lists_of_anything_but_batches_show_the_two_lines_that_convert_them(held, tmp_path):
    path = tmp_path / "A.pt"
    torch.save(held, path)
    with pytest.raises(ConfigError, match="two lines of Python convert it:") as error:
        open_features(str(path))
    exec("\n".join(line.strip() for line in str(error.value).splitlines()[1:]))
    assert np.load(tmp_path / "A.npy").tolist() == [[0, 1], [2, 3], [4, 5]]
