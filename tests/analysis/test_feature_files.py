import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from alignctl.analysis.feature_files import FORMATS, open_features, refuse_not_finite
from alignctl.errors import ConfigError

NUM_ROWS, NUM_COLUMNS = 23, 5
FLOATS = [torch.float16, torch.float32, torch.float64]
WHOLE = [torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64]


def write_npy(path, matrix):
    np.save(path.with_suffix(".npy"), matrix.numpy())
    return str(path.with_suffix(".npy"))


def write_npy_by_column(path, matrix):
    return write_npy(path, torch.from_numpy(np.asfortranarray(matrix.numpy())))


def write_npy_of_the_other_byte_order(path, matrix):
    values = matrix.numpy()
    np.save(path.with_suffix(".npy"), values.astype(values.dtype.newbyteorder()))
    return str(path.with_suffix(".npy"))


def write_npz(path, matrix):
    np.savez(path.with_suffix(".npz"), x=matrix.numpy(), labels=np.arange(NUM_ROWS))
    return str(path.with_suffix(".npz"))


def write_npz_compressed(path, matrix):
    other = np.zeros((2, 2))
    np.savez_compressed(path.with_suffix(".npz"), other=other, x=matrix.numpy().T.copy().T)
    return f"{path.with_suffix('.npz')}:x"


def write_pt(path, matrix):
    torch.save(matrix.clone(), path.with_suffix(".pt"))
    return str(path.with_suffix(".pt"))


def write_pth_of_several(path, matrix):
    held = {"epoch": 3, "x": matrix.T.contiguous().T, "other": torch.zeros(2, 2)}
    torch.save(held, path.with_suffix(".pth"))
    return f"{path.with_suffix('.pth')}:x"


def write_safetensors(path, matrix):
    tensors = {"x": matrix.contiguous(), "y": torch.zeros(1, 1)}
    save_file(tensors, path.with_suffix(".safetensors"))
    return f"{path.with_suffix('.safetensors')}:x"


def write_parquet(path, matrix):
    columns = {f"f{number}": column.numpy() for number, column in enumerate(matrix.T)}
    pq.write_table(pa.table(columns), path.with_suffix(".parquet"), row_group_size=7)
    return str(path.with_suffix(".parquet"))


def write_parquet_lists(path, matrix, kind=pa.list_):
    type_ = kind(pa.from_numpy_dtype(matrix.numpy().dtype))
    lists = pa.array([list(row.numpy()) for row in matrix], type_)
    table = pa.table({"name": ["a"] * NUM_ROWS, "x": lists, "label": range(NUM_ROWS)})
    pq.write_table(table, path.with_suffix(".parquet"), row_group_size=7)
    return str(path.with_suffix(".parquet"))


def write_parquet_lists_of_fixed_size(path, matrix):
    kind = lambda entry: pa.list_(entry, NUM_COLUMNS)  # noqa: E731
    return write_parquet_lists(path, matrix, kind) + ":x"


WRITERS = [function for name, function in globals().items() if name.startswith("write_")]
TORCH_WRITERS = [write_pt, write_pth_of_several, write_safetensors]


@pytest.fixture
def matrix():
    return torch.randn(NUM_ROWS, NUM_COLUMNS, generator=torch.Generator().manual_seed(0)) * 9


@pytest.fixture
def save(tmp_path):
    """A function of a file name and its bytes, or of what writes them: the path as text."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content) if isinstance(content, bytes) else content(path)
        return str(path)

    return write


def refused(text):
    with pytest.raises(ConfigError) as caught:
        open_features(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("write", WRITERS)
def test_every_block_has_the_rows_and_the_dtype_of_the_file(write, dtype, matrix, tmp_path):
    matrix = matrix.to(dtype)
    file = open_features(write(tmp_path / "A", matrix))
    assert (file.num_rows, file.num_columns) == (NUM_ROWS, NUM_COLUMNS)
    for size in (1, 4, 10, NUM_ROWS, 100):  # below, across and beyond the row groups of 7
        for start in range(0, NUM_ROWS, size):
            part = slice(start, start + size)
            rows = file.rows(part)
            assert rows.dtype == dtype
            assert torch.equal(rows, matrix[part])
    for part in (slice(None), slice(-3, None), slice(9, 2), slice(4, 4), slice(50, 60)):
        rows = file.rows(part)
        assert rows.dtype == dtype
        assert torch.equal(rows, matrix[part])


@pytest.mark.parametrize("write", TORCH_WRITERS)
def test_bfloat16_is_kept(write, matrix, tmp_path):
    matrix = matrix.bfloat16()
    rows = open_features(write(tmp_path / "A", matrix)).rows(slice(2, 9))
    assert rows.dtype == torch.bfloat16
    assert torch.equal(rows, matrix[2:9])


@pytest.mark.parametrize("dtype", WHOLE, ids=str)
@pytest.mark.parametrize("write", WRITERS)
def test_whole_numbers_and_booleans_become_float64(write, dtype, matrix, tmp_path):
    matrix = matrix.abs().to(dtype)
    file = open_features(write(tmp_path / "A", matrix))
    for part in (slice(3, 17), slice(5, 5)):
        rows = file.rows(part)
        assert rows.dtype == torch.float64
        assert torch.equal(rows, matrix[part].double())


@pytest.mark.parametrize("write", WRITERS)
def test_a_block_is_the_callers_to_change(write, matrix, tmp_path):
    text = write(tmp_path / "A", matrix)
    file = open_features(text)
    before = Path(text.removesuffix(":x")).read_bytes()
    rows = file.rows(slice(8, 12))
    assert rows.is_contiguous()
    assert rows.untyped_storage().nbytes() == 4 * 4 * NUM_COLUMNS  # not the file behind it
    rows.zero_()
    assert torch.equal(file.rows(slice(8, 12)), matrix[8:12])
    assert Path(text.removesuffix(":x")).read_bytes() == before


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_can_be_sent_to_another_process(write, matrix, tmp_path):
    file = pickle.loads(pickle.dumps(open_features(write(tmp_path / "A", matrix))))
    assert torch.equal(file.rows(slice(1, 9)), matrix[1:9])


def test_a_tensor_that_wants_a_gradient_gives_plain_rows(tmp_path):
    torch.save(torch.nn.Parameter(torch.ones(3, 2)), tmp_path / "A.pt")
    assert not open_features(str(tmp_path / "A.pt")).rows(slice(2)).requires_grad


def test_parquet_columns_of_several_dtypes_share_one_that_holds_them_all(save):
    columns = {"f0": np.float16([1, 2]), "f1": np.float32([3, 4])}
    text = save("A.parquet", lambda path: pq.write_table(pa.table(columns), path))
    assert open_features(text).rows(slice(2)).dtype == torch.float32
    columns["f2"] = np.array([2**31, 5])  # its name says that it is a feature like the others
    text = save("B.parquet", lambda path: pq.write_table(pa.table(columns), path))
    rows = open_features(text).rows(slice(2))
    assert rows.dtype == torch.float64
    assert rows.tolist() == [[1, 3, 2**31], [2, 4, 5]]


def test_the_row_labels_of_pandas_are_no_feature(save):
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0]})[1:].drop(index=2)
    frame = pd.DataFrame(frame, index=[1])
    text = save("A.parquet", lambda path: frame.to_parquet(path, index=True))
    assert len(pq.read_schema(text).names) == 3
    assert open_features(text).rows(slice(None)).tolist() == [[2.0, 5.0]]


def test_parquet_reads_only_the_row_groups_it_needs(tmp_path, matrix, monkeypatch):
    text = write_parquet(tmp_path / "A", matrix)
    read, groups = pq.ParquetFile.read_row_group, []

    def counted(file, group, *args):
        groups.append(group)
        return read(file, group, *args)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    file = open_features(text)
    assert groups == []
    file.rows(slice(8, 13))
    assert groups == [1]
    for start in range(0, NUM_ROWS, 2):
        file.rows(slice(start, start + 2))
    assert groups == [1, 0, 1, 2, 3]


_STREAM = """
import sys
from pathlib import Path
from alignctl.analysis.feature_files import open_features

def peak_mb():
    # the VmHWM of this program alone; ru_maxrss begins with that of the process it came from
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

for text in sys.argv[1:]:
    file, before = open_features(text), peak_mb()
    num_rows = sum(len(file.rows(slice(i, i + 8192))) for i in range(0, file.num_rows, 8192))
    print(num_rows, peak_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_streaming_a_file_keeps_blocks_of_it_in_memory_and_not_the_file(tmp_path):
    shape = 100_000, 512  # 205 MB of float32
    for name, order in (("A.npy", "C"), ("B.npy", "F")):
        np.save(tmp_path / name, np.ones(shape, np.float32, order))
    torch.save(torch.ones(shape), tmp_path / "C.pt")
    save_file({"x": torch.ones(shape)}, tmp_path / "D.safetensors")
    files = sorted(tmp_path.iterdir())
    command = [sys.executable, "-c", _STREAM, *map(str, files)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    for path in files:
        path.unlink()  # pytest keeps the folder
    assert done.returncode == 0, done.stderr
    for path, line in zip(files, done.stdout.splitlines(), strict=True):
        num_rows, grown_mb = line.split()
        assert int(num_rows) == shape[0]
        assert float(grown_mb) < 100, path.name


def test_a_key_chooses_among_several_matrices(save):
    arrays = {"one": np.zeros((2, 3)), "two:b": np.ones((2, 4))}
    text = save("A.npz", lambda path: np.savez(path, **arrays))
    assert open_features(f"{text}:one").num_columns == 3
    file = open_features(f"{text}:two:b")
    assert (file.num_columns, file.name) == (4, f"{text}:two:b")


def test_the_only_matrix_needs_no_key_and_is_named_all_the_same(save):
    arrays = {"labels": np.zeros(2), "x": np.zeros((2, 3)), "name": np.array([["a", "b"]])}
    text = save("A.npz", lambda path: np.savez(path, **arrays))
    assert open_features(text).name == f"{text}:x"
    text = save("A.npy", lambda path: np.save(path, np.zeros((2, 3))))
    assert open_features(text).name == text


def test_a_colon_is_part_of_a_file_that_exists(save):
    text = save("A:1.npy", lambda path: np.save(path, np.zeros((2, 3))))
    assert open_features(text).num_columns == 3
    text = save("B:1.npz", lambda path: np.savez(path, x=np.zeros((2, 3)), y=np.zeros((2, 4))))
    assert open_features(f"{text}:y").num_columns == 4
    longer = save("B:1.npz:y.npy", lambda path: np.save(path, np.zeros((2, 5))))
    assert open_features(longer).num_columns == 5


def test_the_home_folder_and_capital_suffixes_are_understood(save, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros((2, 3)))
    save("A.NPZ", buffer.getvalue())
    assert open_features("~/A.NPZ:x").path == tmp_path / "A.NPZ"


def test_a_whole_number_may_be_the_key_of_a_tensor(save):
    text = save("A.pt", lambda path: torch.save({0: torch.ones(2, 3), 1: torch.ones(2, 4)}, path))
    assert open_features(f"{text}:1").rows(slice(None)).shape == (2, 4)


def test_a_missing_file_is_named_with_the_nearest_one_beside_it(save, tmp_path):
    save("features.npz", lambda path: np.savez(path, x=np.zeros((2, 3))))
    wanted = tmp_path / "feature.npz"
    hint = f"{wanted}: there is no such file; did you mean 'features.npz'?"
    assert refused(str(wanted)) == refused(f"{wanted}:x") == hint
    assert refused(str(tmp_path / "no" / "Z.npy")).endswith("no/Z.npy: there is no such file")
    assert refused("") == ".: is a folder; want a file (" + ", ".join(sorted(FORMATS)) + ")"


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "A.npy").mkdir()
    assert refused(str(tmp_path / "A.npy")).startswith(f"{tmp_path / 'A.npy'}: is a folder; want")


def test_an_unknown_suffix_is_refused_with_those_there_are(save):
    text = save("A.npx", b"")
    assert refused(text) == (
        f"{text}: '.npx' is not a kind of feature file; did you mean '.npz'? "
        "(.arrow, .csv, .feather, .mat, .npy, .npz, .parquet, .pt, .pth, .safetensors, .tsv); "
        f"numpy.save('{text.removesuffix('x')}y', array) makes a file that is read"
    )


def test_a_wrong_key_is_refused_with_the_nearest_and_all_there_are(save):
    arrays = {"features": np.zeros((2, 3)), "labels": np.zeros(2)}
    text = save("A.npz", lambda path: np.savez(path, **arrays))
    said = f"{text}: 'fetures' is not a key; did you mean 'features'? (features, labels)"
    assert refused(f"{text}:fetures") == said
    assert refused(f"{text}:") == f"{text}: '' is not a key (features, labels)"


def test_of_many_keys_a_dozen_are_listed(save):
    tensors = {f"layer_{number:02}": torch.zeros(2, 3) for number in range(40)}
    text = save("A.safetensors", lambda path: save_file(tensors, path))
    said = refused(text)
    assert said.startswith(f"{text}: holds 40 matrices; name one as {text}:KEY (layer_00, ")
    assert said.endswith("layer_11 and 28 more)")


def test_a_key_for_a_single_matrix_is_refused(save):
    text = save("A.npy", lambda path: np.save(path, np.zeros((2, 3))))
    assert refused(f"{text}:x") == f"{text}: holds one matrix and takes no key, not 'x'"


def test_a_file_of_arrays_that_are_no_matrices_is_refused_with_what_it_holds(save):
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
def test_what_is_no_matrix_is_refused_by_its_shape(suffix, shape, wanted, save):
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
def test_an_empty_table_is_refused(table, save):
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
def test_numpy_arrays_of_anything_but_real_numbers_are_refused(suffix, values, held, save):
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
def test_torch_files_of_anything_but_real_tensors_are_refused(value, held, save):
    text = save("A.pt", lambda path: torch.save({"x": value}, path))
    said = f"{text}:x: holds {held}; want floating-point or whole numbers"
    assert refused(text) == refused(f"{text}:x") == said


@pytest.mark.parametrize("held", ["text", 3, []], ids=str)
def test_a_torch_file_of_neither_tensor_nor_list_nor_dict_is_refused(held, save):
    text = save("A.pt", lambda path: torch.save(held, path))
    assert refused(text) == (
        f"{text}: holds {type(held).__name__}; "
        "want a tensor, a list of batches, or a dict of tensors or numpy arrays"
    )


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn], ids=str)
def test_safetensors_of_anything_but_real_numbers_are_refused(dtype, save):
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
def test_a_table_with_anything_but_numbers_is_refused(values, held, save):
    table = pa.table({"a": values})
    text = save("A.parquet", lambda path: pq.write_table(table, path))
    assert refused(text) == (
        f"{text}: no column holds features; want columns of numbers, or a column of number lists; "
        f"--features PATTERN names them (a: {held})"
    )


def test_a_table_with_two_columns_of_lists_wants_one_of_them(save):
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


def test_a_hostile_pickle_is_refused_and_not_run(save, tmp_path):
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


def test_a_torch_file_of_the_old_format_is_refused(save):
    text = save(
        "A.pt",
        lambda path: torch.save(torch.ones(2, 2), path, _use_new_zipfile_serialization=False),
    )
    assert refused(text).endswith("not written by torch.save of version 1.6 or newer")


@pytest.mark.parametrize(
    "write", [write_npy, write_npz, write_pt, write_safetensors, write_parquet]
)
def test_a_file_that_is_cut_short_anywhere_is_refused(write, matrix, tmp_path):
    text = write(tmp_path / "A", matrix).removesuffix(":x")
    whole = Path(text).read_bytes()
    for kept in sorted({0, 1, 7, 9, 60, len(whole) // 2, len(whole) - 40, len(whole) - 1}):
        Path(text).write_bytes(whole[:kept])
        assert refused(text).startswith(f"{text}: cannot be read: ")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_something_else_is_refused(suffix, save):
    text = save(f"A{suffix}", b"This is no file of numbers. " * 40)
    assert refused(text).startswith(f"{text}: cannot be read: ")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that opens and fails to be read")
@pytest.mark.parametrize("suffix", FORMATS)
def test_an_unreadable_file_is_refused(suffix, tmp_path):
    path = tmp_path / f"A{suffix}"
    path.symlink_to("/proc/self/mem")
    assert refused(str(path)).startswith(f"{path}: cannot be read: ")


@pytest.mark.parametrize("text", ["A" * 400 + ".npy", "A\0.npy", "~nobody-of-that-name/A.npy"])
def test_an_impossible_path_is_refused(text):
    with pytest.raises(ConfigError):
        open_features(text)


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


def test_a_negative_shape_is_refused(save):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((10, 4)))
    text = save("A.npy", buffer.getvalue().replace(b"(10, 4)", b"(-9, 4)"))
    assert refused(text) == f"{text}: shape (-9, 4); want at least one row and one column"


def test_a_zip_of_other_things_holds_no_matrix(save):
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
