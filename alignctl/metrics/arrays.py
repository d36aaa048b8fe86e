"""Which arrays count as features, and how they become tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def tensor_of(values: Any, name: str) -> Tensor:
    """The features as a floating-point tensor of (n, d), n and d >= 1; whole numbers as float64.

    values: a tensor, an array of numpy, a table of pandas, or what numpy makes an array of. Shares
    memory where it can. Raises ValueError, which starts with the name, for anything else.
    """
    tensor = values.detach() if isinstance(values, Tensor) else _from_numpy(values, name)
    refuse_unusable(tensor, name)
    if not tensor.numel():
        shape = tuple(tensor.shape)
        raise ValueError(f"{name}: shape {shape}; want at least one row and one column")
    return tensor if tensor.is_floating_point() else tensor.double()


def refuse_unusable(values: Any, name: str, wanted: str = "real") -> None:
    """Raise ValueError unless it is a dense tensor of real numbers, (n, d), in memory."""
    if not isinstance(values, Tensor):
        raise ValueError(f"{name}: want a tensor, not {type(values).__name__}")
    if values.layout != torch.strided or values.is_nested:
        raise ValueError(f"{name}: want a dense tensor, such as .to_dense() gives")
    if values.is_quantized:
        raise ValueError(f"{name}: want numbers, not {values.dtype}: use .dequantize()")
    if values.is_meta:
        raise ValueError(f"{name}: a meta tensor has no values")
    if values.ndim != 2 or values.is_complex():
        raise ValueError(f"{name}: want {wanted} (n, d), not {values.dtype} {tuple(values.shape)}")
    if values.is_floating_point() and values.dtype not in _FLOATS:
        raise ValueError(f"{name}: want float16 to float64, not {values.dtype}: use .float()")


def refuse_other_rows(x: Any, y: Any) -> None:
    """Raise ValueError where two tables of pandas have other rows, or these in another order."""
    if _is_table(x) and _is_table(y) and not x.index.equals(y.index):
        raise ValueError("y: its index is not that of x: want the same images in the same order")


def _is_table(values: Any) -> bool:
    return type(values).__module__.partition(".")[0] == "pandas"


def _from_numpy(values: Any, name: str) -> Tensor:
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{name}: masked arrays are not read: leave out or fill what is masked")
    if hasattr(values, "toarray"):  # of scipy.sparse
        raise ValueError(f"{name}: want a dense array, not a sparse one: use .toarray()")
    try:
        array = np.asarray(values)
    # rows of several lengths; a list of tensors on a GPU, or of such that ask for gradients
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: is no array of numbers: {error}") from error
    if array.dtype.kind not in "biufc":
        raise ValueError(f"{name}: want numbers, not {array.dtype}")
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    if array.dtype.type in (np.longdouble, np.clongdouble):
        raise ValueError(f"{name}: want at most float64, not {array.dtype}: use .astype(float)")
    # torch takes the machine's byte order alone, warns of read-only memory (a memory-mapped file),
    # and refuses negative strides.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))
