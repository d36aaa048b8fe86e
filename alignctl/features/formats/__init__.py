"""Kinds of files that hold features: how each gives a matrix a block of rows at a time."""

from collections.abc import Callable
from pathlib import Path

from alignctl.features.formats.array import Arrays
from alignctl.features.formats.arrow_files import arrow_table
from alignctl.features.formats.numpy_files import mat_arrays, npy_arrays, npz_arrays
from alignctl.features.formats.tables import Table
from alignctl.features.formats.text_tables import text_table
from alignctl.features.formats.torch_files import safetensors_arrays, torch_arrays

FORMATS: dict[str, Callable[[Path], Arrays | Table]] = {
    ".npy": npy_arrays,
    ".npz": npz_arrays,
    ".mat": mat_arrays,
    ".pt": torch_arrays,
    ".pth": torch_arrays,
    ".safetensors": safetensors_arrays,
    ".parquet": arrow_table,
    ".feather": arrow_table,
    ".arrow": arrow_table,
    ".csv": text_table,
    ".tsv": text_table,
}
"""By suffix: what opens a file, before any row is read."""
