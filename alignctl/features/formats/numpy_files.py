"""Arrays in .npy, .npz and .mat files."""

import math
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alignctl.features.formats.array import Array, Arrays, Part, from_numpy, numpy_array
from alignctl.features.formats.conversions import converted_by

_SPARSE_KEYS = {"data", "shape", "format"}
_MAT_NUMBERS = {
    "double", "single", "logical", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64",
}  # fmt: skip
_MAT_TEXT = ("char", "cell")


class _NpyHeader(NamedTuple):
    shape: tuple[int, ...]
    by_column: bool
    dtype: np.dtype[Any]
    offset: int


def npy_arrays(path: Path) -> Arrays:
    """The one array of a .npy file, of which only the rows asked for are read."""
    with path.open("rb") as file:
        header = _npy_header(file)
    numbers = math.prod(header.shape) * header.dtype.itemsize
    missing = header.offset + numbers - path.stat().st_size
    if missing > 0 and not header.dtype.hasobject:
        raise ValueError(f"{missing} bytes are missing at its end")
    return {None: numpy_array(header.shape, header.dtype, partial(_npy_rows, path, header))}


def _npy_header(file: IO[bytes]) -> _NpyHeader:
    # Version 3 differs from 2 in the names of fields, and arrays with fields are refused.
    first = np.lib.format.read_magic(file) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    return _NpyHeader(*read(file), file.tell())


def _npy_rows(path: Path, header: _NpyHeader, part: Part) -> Tensor:
    if isinstance(part, slice):
        return _npy_block(path, header, part)
    if header.by_column:  # a row's numbers lie far apart: the map reads the pages they are in
        mapped = np.memmap(path, header.dtype, "r", header.offset, header.shape, "F")
        return from_numpy(mapped[part])
    num_columns = header.shape[1]
    found = np.empty((len(part), num_columns), header.dtype)
    with path.open("rb", buffering=0) as file:
        for place, row in enumerate(part):
            file.seek(header.offset + int(row) * num_columns * header.dtype.itemsize)
            if file.readinto(found[place]) < found[place].nbytes:
                raise ValueError("it has become shorter")
    return from_numpy(found)


def _npy_block(path: Path, header: _NpyHeader, part: slice) -> Tensor:
    """Read, not mapped: a map of an array stored by column ends up resident as a whole."""
    num_rows, num_columns = header.shape
    shape = part.stop - part.start, num_columns

    def numbers(first: int, count: int) -> NDArray[Any]:
        offset = header.offset + first * header.dtype.itemsize
        return np.fromfile(path, header.dtype, count, offset=offset)

    if header.by_column:
        starts = range(part.start, num_rows * num_columns, num_rows)
        found = np.stack([numbers(start, shape[0]) for start in starts], axis=1)
    else:
        found = numbers(part.start * num_columns, math.prod(shape))
    return from_numpy(found.reshape(shape))  # fails if the file has become shorter


def npz_arrays(path: Path) -> Arrays:
    """The arrays of a .npz file, or the one matrix that `scipy.sparse.save_npz` wrote."""
    arrays: dict[str | None, Array] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as file:
                    header = _npy_header(file)
                whole = partial(_npz_member, path, member)
                read = _Whole(whole)
                key = member.removesuffix(".npy")
                values = None if header.dtype.hasobject else whole  # objects are pickled
                arrays[key] = numpy_array(header.shape, header.dtype, read, values)
    if arrays.keys() >= _SPARSE_KEYS and arrays["format"].shape == ():
        return {None: _sparse_array(partial(_load_sparse, path))}
    return arrays


def _npz_member(path: Path, member: str) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


class _Whole:
    """Rows of what is read whole, once: a compressed array cannot be entered half-way."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load
        self._kept: Any = None

    def __call__(self, part: Part) -> Tensor:
        if self._kept is None:
            self._kept = self._load()
        rows = self._kept[part]
        return from_numpy(rows if isinstance(rows, np.ndarray) else rows.toarray())


def _load_sparse(path: Path) -> Any:
    from scipy.sparse import load_npz

    return load_npz(path).tocsr()


def _sparse_array(load: Callable[[], Any]) -> Array:
    """A sparse matrix, kept sparse: the rows asked for become dense."""
    matrix = load()
    return numpy_array(tuple(matrix.shape), matrix.dtype, _Whole(load))


def mat_arrays(path: Path) -> Arrays:
    """The variables of a .mat file of MATLAB (v4 to v7); rows and columns of one are vectors."""
    from scipy.io import whosmat

    try:
        found = whosmat(str(path), appendmat=False)
    except NotImplementedError as error:  # v7.3 is HDF5
        raise converted_by(path, "mat73", "a .mat file of version 7.3 (HDF5)") from error
    return {name: _mat_array(path, name, tuple(shape), kind) for name, shape, kind in found}


def _mat_array(path: Path, name: str, shape: tuple[int, ...], kind: str) -> Array:
    if kind == "sparse":
        return _sparse_array(partial(_mat_variable, path, name))
    is_vector = len(shape) == 2 and 1 in shape
    values = partial(_mat_values, path, name)
    whole = _Whole(partial(_mat_variable, path, name))
    if kind in _MAT_TEXT:
        return Array((max(shape),) if is_vector else shape[:1], "text", False, whole, values)
    shape = (max(shape),) if is_vector else shape
    is_real = kind in _MAT_NUMBERS
    return Array(shape, kind, is_real, whole, values if is_vector and is_real else None)


def _mat_variable(path: Path, name: str) -> Any:
    from scipy.io import loadmat

    found = loadmat(str(path), variable_names=[name], appendmat=False)[name]
    return found if isinstance(found, np.ndarray) else found.tocsr()


def _mat_values(path: Path, name: str) -> NDArray[Any]:
    found: NDArray[Any] = _mat_variable(path, name).ravel()
    if found.dtype.kind == "O":  # a cell holds arrays of one text each
        found = np.array(["".join(map(str, np.ravel(cell))) for cell in found], object)
    elif found.dtype.kind == "U":  # a char matrix pads its rows
        found = np.char.rstrip(found)
    return found
