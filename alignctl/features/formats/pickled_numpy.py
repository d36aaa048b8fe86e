"""Numpy arrays inside files of torch.save, rebuilt without running numpy's own unpickling.

torch's reader for weights runs nothing but the functions it is given. Numpy's are not safe to
give: a hostile dtype can turn bytes into pointers. These stand in for them, and know only plain
numbers and text.
"""

import re
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_PLAIN = re.compile(r"[biufcUS]\d+")


class PlainDtype:
    """What a pickled numpy.dtype says: its code, and its byte order once the state is set."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code if isinstance(code, str) else ""
        self.order = "="
        self.is_plain = _PLAIN.fullmatch(self.code) is not None

    def __setstate__(self, state: Any) -> None:
        order, subarray, names, fields = state[1:5]
        self.order = order if order in ("<", ">") else "="
        self.is_plain = self.is_plain and (subarray, names, fields) == (None, None, None)

    def numpy(self) -> np.dtype[Any]:
        """The dtype itself; only of a plain one."""
        return np.dtype(self.code).newbyteorder("=" if self.order == "=" else self.order)  # type: ignore[arg-type]


class PlainArray:
    """A pickled numpy.ndarray: `array` is None where it holds neither numbers nor text."""

    def __init__(self, *_: Any) -> None:
        self.array: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_column, content = state
        order: Literal["F", "C"] = "F" if by_column else "C"
        if dtype.is_plain and isinstance(content, bytes):
            self.array = np.frombuffer(content, dtype.numpy()).reshape(shape, order=order)
        elif isinstance(content, list) and all(isinstance(entry, str | int) for entry in content):
            self.array = np.array(content, object).reshape(shape, order=order)


def plain_scalar(dtype: PlainDtype, content: Any) -> Any:
    """A pickled scalar of numpy as Python's number or text; None of anything else."""
    return np.frombuffer(content, dtype.numpy())[0].item() if dtype.is_plain else None


STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (PlainArray, "numpy.ndarray"),
    (PlainDtype, "numpy.dtype"),
    *((PlainArray, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((plain_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
"""What torch's reader calls in place of each of numpy's functions (torch 2.6 or newer)."""
