"""Blocks of rows of files of features: the same in every format."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from alignctl.features.feature_files import open_features

NUM_ROWS, NUM_COLUMNS = 23, 5
FLOATS = [torch.float16, torch.float32, torch.float64]

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
from alignctl.features.feature_files import open_features

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
    shape = 60_000, 512  # 123 MB of float32
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


@pytest.mark.parametrize(
    "write", [write_npy, write_npz, write_pt, write_safetensors, write_parquet]
)
def test_a_file_that_is_cut_short_anywhere_is_refused(write, matrix, tmp_path, refused):
    text = write(tmp_path / "A", matrix).removesuffix(":x")
    whole = Path(text).read_bytes()
    for kept in sorted({0, 1, 7, 9, 60, len(whole) // 2, len(whole) - 40, len(whole) - 1}):
        Path(text).write_bytes(whole[:kept])
        assert refused(text).startswith(f"{text}: cannot be read: ")
