"""What the functions of two spaces take as features, and how they refuse all else."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from alignctl.metrics import Moments, compare, linear_cka, minibatch_cka, rsa
from alignctl.metrics.inference.bootstrap import bootstrap_interval

VALUES = np.random.default_rng(0).normal(size=(30, 4))
OTHERS = np.random.default_rng(1).normal(size=(30, 3)) + VALUES[:, :3]
FUNCTIONS = [
    linear_cka,
    rsa,
    lambda x, y: minibatch_cka(x, y, 8),
    compare,
    bootstrap_interval,
]
REFUSED = {
    "masked": (np.ma.masked_array(VALUES, VALUES > 1), "masked arrays are not read"),
    "sparse matrix": (scipy.sparse.csr_matrix(VALUES), "want a dense array"),
    "sparse array": (scipy.sparse.coo_array(VALUES), "want a dense array"),
    "sparse tensor": (torch.tensor(VALUES).to_sparse(), "want a dense tensor"),
    "object": (VALUES.astype(object), "want numbers, not object"),
    "text": (VALUES.astype(str), "want numbers, not <U"),
    "dates": (np.zeros((30, 2), dtype="M8[s]"), "want numbers, not datetime64"),
    "long double": (VALUES.astype(np.longdouble), "want at most float64"),
    "float8": (torch.tensor(VALUES).to(torch.float8_e4m3fn), "want float16 to float64"),
    "meta": (torch.empty(30, 4, device="meta"), "a meta tensor has no values"),
    "complex": (VALUES + 1j, r"want real \(n, d\), not torch.complex128"),
    "complex tensor": (torch.tensor(VALUES + 1j), r"want real \(n, d\)"),
    "no columns": (VALUES[:, :0], r"shape \(30, 0\); want at least one row and one column"),
    "no rows": (VALUES[:0], r"shape \(0, 4\); want at least one row"),
    "vector": (VALUES[:, 0], r"want real \(n, d\), not torch.float64 \(30,\)"),
    "maps": (VALUES[:, None], r"want real \(n, d\), not torch.float64 \(30, 1, 4\)"),
    "ragged": ([[1.0], [2.0, 3.0]], "is no array of numbers"),
    "nothing": (None, "want numbers, not object"),
    "path": ("features.npy", "want numbers, not <U12"),
    "mixed table": (pd.DataFrame({"a": ["b"] * 30, "c": range(30)}), "want numbers, not object"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_no_matrix_of_numbers_is_refused_by_name(kind, function):
    values, message = REFUSED[kind]
    with pytest.raises(ValueError, match=rf"^x: {message}"):
        function(values, OTHERS)
    with pytest.raises(ValueError, match=rf"^y: {message}"):
        function(OTHERS, values)


@pytest.mark.filterwarnings("ignore")  # torch warns that quantised tensors will go
def test_quantised_tensor_is_refused():
    values = torch.quantize_per_tensor(torch.tensor(VALUES).float(), 0.1, 0, torch.qint8)
    with pytest.raises(ValueError, match=r"^x: want numbers, not torch.qint8"):
        linear_cka(values, OTHERS)


@pytest.mark.parametrize(
    "values",
    [
        VALUES.astype(">f8"),
        VALUES.tolist(),
        pd.DataFrame(VALUES),
        np.broadcast_to(VALUES, VALUES.shape),
        np.asfortranarray(VALUES),
        VALUES[::-1][::-1],
        torch.tensor(VALUES, requires_grad=True),
        [torch.tensor(row) for row in VALUES],
    ],
    ids=["big-endian", "lists", "table", "read-only", "by columns", "flipped", "grad", "tensors"],
)
def test_every_form_of_the_same_numbers_has_the_same_score(values):
    assert linear_cka(values, OTHERS) == linear_cka(VALUES, OTHERS)


@pytest.mark.parametrize("dtype", [">i4", "uint16", "uint64", "int8", "bool", ">f4", "float16"])
def test_other_numbers_are_those_of_their_float64_values(dtype):
    values = np.floor(3 * np.abs(VALUES)).astype(dtype)
    expected = linear_cka(values.astype(np.float64), OTHERS)
    assert linear_cka(values, OTHERS) == pytest.approx(expected, abs=1e-12)


def test_tables_with_other_rows_are_refused():
    table = pd.DataFrame(VALUES, index=[f"image {i}" for i in range(30)])
    other = pd.DataFrame(OTHERS, index=table.index)
    assert linear_cka(table, other) == linear_cka(VALUES, OTHERS)
    with pytest.raises(ValueError, match=r"^y: its index is not that of x"):
        linear_cka(table, other[::-1])


@pytest.mark.parametrize("kind", ["sparse tensor", "float8", "meta", "complex tensor", "maps"])
def test_moments_refuse_what_is_no_matrix_of_numbers(kind):
    values, message = REFUSED[kind]
    values = torch.as_tensor(values)
    good = torch.tensor(VALUES)
    with pytest.raises(ValueError, match=rf"^features\[1\]: {message}"):
        Moments.origins_of([good, values])
    origins = Moments.origins_of([good, good])
    message = message.replace("real", "floating-point")
    with pytest.raises(ValueError, match=rf"^features\[1\]: {message}"):
        Moments.measure([good, values], [(0, 1)], origins)
    with pytest.raises(ValueError, match=r"^features\[0\]: want a tensor, not ndarray"):
        Moments.measure([VALUES, VALUES], [(0, 1)], origins)
