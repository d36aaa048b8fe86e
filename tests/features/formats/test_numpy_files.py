"""Files of MATLAB, sparse matrices, and ids beside the arrays of a .npz file."""

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch
from safetensors.torch import save_file

from alignctl.errors import ConfigError
from alignctl.features.feature_files import open_features
from alignctl.features.formats.choice import Choice

N = 20
NAMES = [f"image {number}" for number in range(N)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def matrix():
    return np.random.default_rng(0).normal(size=(N, 3))


def refused(text, **choice):
    with pytest.raises(ConfigError) as error:
        open_features(text, Choice(**choice))
    return str(error.value)


def assert_holds(file, matrix):
    assert (file.num_rows, file.num_columns) == matrix.shape
    order = np.random.default_rng(0).permutation(len(matrix))
    assert torch.equal(file.rows(slice(3, 9)), torch.tensor(matrix[3:9]))
    assert torch.equal(file.gather(order), torch.tensor(matrix[order]))


@pytest.mark.parametrize("version", ["4", "5"])
def test_a_matrix_of_matlab_is_read(matrix, version):
    matrix = matrix.astype(np.float64 if version == "4" else np.float32)
    scipy.io.savemat("A.mat", {"features": matrix, "labels": np.arange(N)}, format=version)
    file = open_features("A.mat")
    assert file.name == "A.mat:features"
    assert_holds(file, matrix)


def test_a_sparse_matrix_of_matlab_is_read(matrix):
    matrix[matrix < 0] = 0
    scipy.io.savemat("A.mat", {"x": scipy.sparse.csc_matrix(matrix)})
    assert_holds(open_features("A.mat"), matrix)


@pytest.mark.parametrize(
    "ids",
    [np.array(NAMES), np.array(NAMES, object), np.arange(N) + 7, np.arange(N)[:, None] + 7.0],
    ids=["characters", "cells", "numbers", "column"],
)
def test_ids_of_matlab_are_recognised(matrix, ids):
    scipy.io.savemat("A.mat", {"x": matrix, "ids": ids})
    (found,) = open_features("A.mat").ids
    assert found.values.tolist() == np.ravel(ids).tolist()


def test_version_7_3_is_refused_with_what_converts_it():
    with open("A.mat", "wb") as file:  # noqa: PTH123
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(500))
    assert refused("A.mat") == (
        "A.mat: a .mat file of version 7.3 (HDF5), which is not read here; "
        "two lines of Python convert it:\n"
        "    import h5py, numpy\n"
        "    numpy.save('A.npy', h5py.File('A.mat')['KEY'][:].T)"
    )


@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "bsr", "dia"])
def test_a_sparse_matrix_of_scipy_is_read(matrix, layout):
    matrix[matrix < 0.5] = 0
    scipy.sparse.save_npz("A.npz", scipy.sparse.csr_matrix(matrix).asformat(layout))
    file = open_features("A.npz")
    assert file.name == "A.npz"
    assert_holds(file, matrix)


@pytest.mark.parametrize("key", ["ids", "filenames", "x_names"])
@pytest.mark.parametrize("values", [np.array(NAMES), np.arange(N)[::-1]], ids=["text", "numbers"])
def test_an_array_named_like_ids_holds_them(matrix, key, values):
    np.savez("A.npz", x=matrix, labels=np.arange(N), **{key: values})
    (found,) = open_features("A.npz").ids
    assert (found.name, found.values.tolist()) == (key, values.tolist())
    assert open_features("A.npz", Choice(ids="none")).ids == ()
    assert [ids.name for ids in open_features("A.npz", Choice(ids="labels")).ids] == ["labels"]


def test_ids_of_safetensors_are_recognised(matrix):
    save_file({"x": torch.tensor(matrix), "ids": torch.arange(N)}, "A.safetensors")
    file = open_features("A.safetensors")
    assert [ids.values.tolist() for ids in file.ids] == [list(range(N))]
    assert_holds(file, matrix)


def test_ids_that_are_pickled_are_not_read_and_that_is_said(matrix):
    np.savez("A.npz", x=matrix, names=np.array(NAMES, object))
    file = open_features("A.npz")
    assert file.ids == ()
    assert file.note.startswith("names may be ids, and cannot be read: Python objects; ")
    assert refused("A.npz", ids="names") == (
        "A.npz:names: holds Python objects (20,); want 20 ids, text or whole numbers"
    )


@pytest.mark.parametrize("dtype", ["f4", ">f8", "f2", "i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_of_a_npy_file_come_in_the_order_asked_for(matrix, dtype, order):
    matrix = np.asarray(9 * matrix, dtype, order=order)
    np.save("A.npy", matrix)
    rows = open_features("A.npy").gather(np.array([19, 0, 7, 7]))
    assert rows.numpy().tolist() == matrix[[19, 0, 7, 7]].tolist()


def test_a_npy_file_that_has_become_shorter_is_refused(matrix):
    np.save("A.npy", matrix)
    file = open_features("A.npy")
    with open("A.npy", "r+b") as content:  # noqa: PTH123
        content.truncate(400)
    with pytest.raises(ConfigError, match=r"A\.npy: cannot be read: it has become shorter"):
        file.gather(np.array([1, 19]))
