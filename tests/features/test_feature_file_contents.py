"""Files that hold no matrix of finite real numbers, or not a whole one."""

import io
import os
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from alignctl.errors import ConfigError
from alignctl.features.feature_files import FORMATS, open_features, refuse_not_finite

NUM_ROWS, NUM_COLUMNS = 23, 5
FLOATS = [torch.float16, torch.float32, torch.float64]

FLOATS = [torch.float16, torch.float32, torch.float64]


def test_a_file_of_arrays_that_are_no_matrices_is_refused_with_what_it_holds(save, refused):
    held = {"labels": torch.zeros(4), "images": torch.zeros(4, 3, 2), "epoch": 3}
    text = save("A.pt", lambda path: torch.save(held, path))
    assert refused(text) == (
        f"{text}: holds no matrix; want (images, features) (epoch: int, not a tensor (), "
        "images: float32 (4, 3, 2), labels: float32 (4,))"
    )
    text = save("A.npz", np.savez)
    assert refused(text) == f"{text}: holds no matrix; want (images, features) (no arrays)"


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((), "want (images, features)"),
        ((4,), "want (images, features)"),
        ((4, 3, 2), "want (images, features): flatten or pool the rest"),
        ((0, 3), "want at least one row and one column"),
        ((3, 0), "want at least one row and one column"),
    ],
)
def test_what_is_no_matrix_is_refused_by_its_shape(suffix, shape, wanted, save, refused):
    writers = {
        ".npy": lambda path: np.save(path, np.zeros(shape)),
        ".npz": lambda path: np.savez(path, x=np.zeros(shape)),
        ".pt": lambda path: torch.save({"x": torch.zeros(shape)}, path),
        ".safetensors": lambda path: save_file({"x": torch.zeros(shape)}, path),
    }
    text = save(f"A{suffix}", writers[suffix])
    where = text if suffix == ".npy" else f"{text}:x"
    assert refused(text) == f"{where}: shape {shape}; {wanted}"


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"x": pa.array([], pa.float32())}),
        pa.table({"x": pa.array([], pa.list_(pa.float32()))}),
        pa.table({"x": pa.array([[], []], pa.list_(pa.float32()))}),
        pa.table({}),
    ],
    ids=["no rows", "no lists", "empty lists", "no columns"],
)
def test_an_empty_table_is_refused(table, save, refused):
    text = save("A.parquet", lambda path: pq.write_table(table, path))
    assert refused(text).endswith("want at least one row and one column")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    ("values", "held"),
    [
        (np.zeros((2, 3), complex), "complex128"),
        (np.array([["a", "b"]]), "text"),
        (np.array([[b"a", b"b"]]), "text"),
        (np.zeros((2, 3), "M8[s]"), "datetime64[s]"),
        (np.zeros((2, 3), [("a", "f4")]), "void32"),
        (np.zeros((2, 3), [("ä", "f4"), ("日", "f8")]), "void96"),
        (np.zeros((2, 3), np.longdouble), np.dtype(np.longdouble).name),
        (np.array([[{}, ()]], object), "Python objects"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
def test_numpy_arrays_of_anything_but_real_numbers_are_refused(suffix, values, held, save, refused):
    if suffix == ".npy":
        text = where = save("A.npy", lambda path: np.save(path, values))
    else:
        text = save("A.npz", lambda path: np.savez(path, x=values))
        where = f"{text}:x"
    assert refused(text) == f"{where}: holds {held}; want floating-point or whole numbers"


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (torch.zeros(2, 3, dtype=torch.complex64), "complex64"),
        (torch.zeros(2, 3).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.zeros(2, 3).to_sparse(), "a sparse tensor or one without data"),
        (torch.zeros(2, 3, device="meta"), "a sparse tensor or one without data"),
        ("text", "str, not a tensor"),
        ({"y": torch.zeros(2, 3)}, "dict, not a tensor"),
    ],
    ids=["complex", "float8", "sparse", "meta", "text", "nested"],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
def test_torch_files_of_anything_but_real_tensors_are_refused(value, held, save, refused):
    text = save("A.pt", lambda path: torch.save({"x": value}, path))
    said = f"{text}:x: holds {held}; want floating-point or whole numbers"
    assert refused(text) == refused(f"{text}:x") == said


@pytest.mark.parametrize("held", ["text", 3, []], ids=str)
def test_a_torch_file_of_neither_tensor_nor_list_nor_dict_is_refused(held, save, refused):
    text = save("A.pt", lambda path: torch.save(held, path))
    assert refused(text) == (
        f"{text}: holds {type(held).__name__}; "
        "want a tensor, a list of batches, or a dict of tensors or numpy arrays"
    )


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn], ids=str)
def test_safetensors_of_anything_but_real_numbers_are_refused(dtype, save, refused):
    tensors = {"x": torch.zeros(2, 3).to(dtype)}
    text = save("A.safetensors", lambda path: save_file(tensors, path))
    assert refused(text).startswith(f"{text}:x: holds {'C64' if dtype.is_complex else 'F8_E4M3'};")


@pytest.mark.parametrize(
    ("values", "held"),
    [
        (["a", "b"], "string"),
        ([["a"], ["b"]], "list<element: string>"),
        ([[[1.0]], [[2.0]]], "list<element: list<element: double>>"),
    ],
    ids=["text", "lists of text", "lists of lists"],
)
def test_a_table_with_anything_but_numbers_is_refused(values, held, save, refused):
    table = pa.table({"a": values})
    text = save("A.parquet", lambda path: pq.write_table(table, path))
    assert refused(text) == (
        f"{text}: no column holds features; want columns of numbers, or a column of number lists; "
        f"--features PATTERN names them (a: {held})"
    )


def test_a_table_with_two_columns_of_lists_wants_one_of_them(save, refused):
    table = pa.table({"one": [[1.0], [2.0]], "two": [[1.0, 2.0]] * 2})
    text = save("A.parquet", lambda path: pq.write_table(table, path))
    assert refused(text).endswith(f"holds 2 matrices; name one as {text}:KEY (one, two)")
    assert refused(f"{text}:tow").endswith("'tow' is not a key; did you mean 'two'? (one, two)")
    assert open_features(f"{text}:two").num_columns == 2


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([1.0, 2.0, 3.0, None], "no value"),
        ([[1.0, 2.0]] * 3 + [[1.0]], "want 2 numbers, as in row 0"),
        ([[1.0, 2.0]] * 3 + [None], "want 2 numbers, as in row 0"),
        ([[1.0, 2.0]] * 3 + [[None, 1.0]], "no value"),
        (pa.array([[1.0, 2.0]] * 3 + [None], pa.list_(pa.float32(), 2)), "want 2 numbers"),
    ],
    ids=["number", "ragged", "list", "entry", "fixed size"],
)
def test_a_hole_in_a_table_is_named_by_row_and_column(values, fault, save):
    table = pa.table({"x": values})
    text = save("A.parquet", lambda path: pq.write_table(table, path, row_group_size=2))
    file = open_features(text)
    assert len(file.rows(slice(2))) == 2
    with pytest.raises(ConfigError) as caught:
        file.rows(slice(1, 4))
    assert str(caught.value).startswith(f"{text}, row 3, column 'x': {fault}")


class _Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_a_hostile_pickle_is_refused_and_not_run(save, tmp_path, refused):
    mark = tmp_path / "was run"
    text = save("A.pt", lambda path: torch.save({"x": _Hostile(str(mark))}, path))
    said = refused(text)
    assert said.startswith(
        f"{text}: refused: it holds more than tensors ({os.mkdir.__module__}.mkdir)"
    )
    assert said.endswith(
        "could run code; want a tensor, a list of batches, or a dict of tensors or numpy arrays"
    )
    bare = save("B.pt", pickle.dumps(_Hostile(str(mark))))
    assert "cut short, or not written by torch.save" in refused(bare)
    text = save("C.npy", lambda path: np.save(path, np.array([[_Hostile(str(mark))]], object)))
    assert "holds Python objects" in refused(text)
    assert not mark.exists()


def test_a_torch_file_of_the_old_format_is_refused(save, refused):
    text = save(
        "A.pt",
        lambda path: torch.save(torch.ones(2, 2), path, _use_new_zipfile_serialization=False),
    )
    assert refused(text).endswith("not written by torch.save of version 1.6 or newer")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_something_else_is_refused(suffix, save, refused):
    text = save(f"A{suffix}", b"This is no file of numbers. " * 40)
    assert refused(text).startswith(f"{text}: cannot be read: ")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that opens and fails to be read")
@pytest.mark.parametrize("suffix", FORMATS)
def test_an_unreadable_file_is_refused(suffix, tmp_path, refused):
    path = tmp_path / f"A{suffix}"
    path.symlink_to("/proc/self/mem")
    assert refused(str(path)).startswith(f"{path}: cannot be read: ")


def test_a_damaged_compressed_array_is_refused_when_it_is_read(save):
    noise = np.random.default_rng(0).random((40, 40))
    text = save("A.npz", lambda path: np.savez_compressed(path, x=noise))
    damaged = bytearray(Path(text).read_bytes())
    damaged[len(damaged) // 2] ^= 255
    Path(text).write_bytes(damaged)
    with pytest.raises(ConfigError, match=r"A\.npz: cannot be read: .*CRC"):
        open_features(text).rows(slice(3))


@pytest.mark.parametrize("by_column", [False, True])
def test_a_file_that_shrinks_while_it_is_read_is_refused(by_column, save):
    values = np.asarray(np.ones((50, 3)), order="F" if by_column else "C")
    text = save("A.npy", lambda path: np.save(path, values))
    file = open_features(text)
    os.truncate(text, 200)
    with pytest.raises(ConfigError, match=r"A\.npy: cannot be read: "):
        file.rows(slice(40, 50))
    Path(text).unlink()
    with pytest.raises(ConfigError, match=r"A\.npy: cannot be read: No such file or directory"):
        file.rows(slice(5))


def test_a_negative_shape_is_refused(save, refused):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((10, 4)))
    text = save("A.npy", buffer.getvalue().replace(b"(10, 4)", b"(-9, 4)"))
    assert refused(text) == f"{text}: shape (-9, 4); want at least one row and one column"


def test_a_zip_of_other_things_holds_no_matrix(save, refused):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "nothing")

    assert refused(save("A.npz", write)).endswith("(no arrays)")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.bfloat16], ids=str)
def test_the_first_number_that_is_not_finite_is_named_by_its_place(value, dtype, save):
    rows = torch.zeros(10, 4, dtype=dtype)
    text = save("A.safetensors", lambda path: save_file({"x": rows}, path))
    name = open_features(text).name
    refuse_not_finite(name, rows, 0)
    rows[7, 3], rows[8, 0] = float(value), float("nan")
    with pytest.raises(ValueError) as caught:
        refuse_not_finite(name, rows[5:], 105)
    assert str(caught.value) == f"{text}:x, row 107, column 3: {value}"


def test_no_rows_are_finite(save):
    text = save("A.npy", lambda path: np.save(path, np.zeros((2, 3))))
    file = open_features(text)
    refuse_not_finite(file.name, file.rows(slice(2, 2)), 2)
