"""How rows of features are prepared before they are multiplied: direction, shift, scale.

Every score here is unchanged when a space is shifted and scaled as a whole, so a fixed frame costs
nothing and keeps the digits of float32 for what differs between rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from alignctl.metrics.arrays import refuse_other_rows, tensor_of

Kind = Literal["raw", "unit", "correlation"]
"""raw: as they are; unit: divided by their length; correlation: less their own mean, then unit."""

# Which rows a distance is measured between: cosine and correlation distance are half the squared
# distance of rows of length 1.
KIND_OF_DISTANCE: dict[str, Kind] = {
    "cosine": "unit", "correlation": "correlation", "sqeuclidean": "raw",
}  # fmt: skip
KIND_OF_KERNEL: dict[str, Kind] = {"linear": "raw", "cosine": "unit"}

Array = Tensor | np.ndarray[Any, Any]

NO_DIRECTION: dict[Kind, str] = {
    "unit": "all zeros, so it has no cosine",
    "correlation": "constant, so it has no correlation distance",
}
_FRAME_ROWS = 1024  # enough to bring the origin near the mean
_FRAME_ROWS_AT_LEAST, _FRAME_ENTRIES = 64, 2**22  # of wide rows fewer do, and take less memory
_ROWS_IN_CACHE = 256
_ORDERS_OF_TWO = 20  # that rows may be larger than the frame's: their fourth powers fit float32


class NotFiniteError(ValueError):
    """A feature is a NaN or an infinity: no metric has a value."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Where a space is looked at from: rows become (row - origin) * scale."""

    kind: Kind
    origin: Tensor
    """(d,), float64: near the mean."""
    scale: Tensor
    """(), float64, a power of two that brings the mean squared length near 1; 1 unless raw."""
    mean_square: Tensor
    """(), float64: near the mean squared length in this frame."""

    def tensors(self) -> list[Tensor]:
        """What must be the same on every process that adds to the same sums."""
        return [self.origin, self.scale, self.mean_square]

    def same_as(self, other: "Frame") -> bool:
        """Whether both give the same rows."""
        pairs = zip(self.tensors(), other.tensors(), strict=True)
        return self.kind == other.kind and all(a is b or torch.equal(a, b) for a, b in pairs)


def frame_of(rows: Tensor, kind: Kind = "raw") -> Frame:
    """A frame close to the mean and spread of some rows: (n, d), n >= 1.

    Its origin is exact where all rows are equal. Rows that are not finite, or have no direction,
    are left out: they are named when they are measured.
    """
    enough = max(_FRAME_ROWS_AT_LEAST, min(_FRAME_ROWS, _FRAME_ENTRIES // max(1, rows.shape[1])))
    some = rows[:: max(1, len(rows) // enough)].detach().to(torch.float64, copy=True)
    if kind != "raw":
        some, lengths = _directed(some, kind, rows.dtype)
        some = some[lengths.ravel() > 0]
    some = some[some.sum(dim=1).isfinite()]
    one = some.new_ones(())
    if len(some) == 0:
        return Frame(kind, some.new_zeros(rows.shape[1]), one, one)
    origin = some[0] + (some - some[0]).mean(dim=0)
    largest = (some - origin).abs().amax().clamp(min=torch.finfo(torch.float64).tiny)
    mean_square = ((some - origin) / largest).square().sum(dim=1).mean()
    if kind != "raw":  # lengths of 1 need no scale
        return Frame(kind, origin, one, mean_square * largest.square())
    exponent = (torch.log2(mean_square) / 2 + torch.log2(largest)).round()
    if _may_reach_further(rows, origin, exponent):
        blocks = (rows[start : start + _FRAME_ROWS] for start in range(0, len(rows), _FRAME_ROWS))
        furthest = torch.stack([(block.detach() - origin).abs().amax() for block in blocks]).amax()
        order = torch.log2(furthest).round()
        exponent = order if _is_far(order, exponent) else exponent
    scale = torch.where(exponent.isfinite(), torch.exp2(-exponent), one)
    return Frame(kind, origin, scale, mean_square * (largest * scale).square())


def _may_reach_further(rows: Tensor, origin: Tensor, exponent: Tensor) -> bool:
    """Whether some row may be of quite another size than those which the exponent was made of."""
    low, high = (end.to(torch.float64) for end in torch.aminmax(rows.detach()))
    reach = torch.maximum((high - origin.amin()).abs(), (low - origin.amax()).abs())
    return _is_far(torch.log2(reach), exponent)


def _is_far(order: Tensor, exponent: Tensor) -> bool:
    return bool(order.isfinite() and not (order - exponent).abs() <= _ORDERS_OF_TWO)


def prepare(rows: Tensor, frame: Frame, dtype: torch.dtype) -> Tensor:
    """Rows in their frame, and their squared length less its mean as a last column: (n, d + 1).

    rows: (n, d), any floating-point dtype. dtype: float32 or float64, of the result.
    A row that is not finite becomes NaN, one without a direction ends in infinity.
    """
    prepared = torch.empty(len(rows), rows.shape[1] + 1, dtype=dtype, device=rows.device)
    shifted, square = prepared[:, :-1], prepared[:, -1:]
    if frame.kind == "raw":
        torch.sub(rows.detach().to(dtype), frame.origin.to(dtype), out=shifted)
        shifted *= frame.scale.to(dtype)
        lengths = None
    else:
        lengths = _shift_directed(rows.detach(), frame, out=shifted)
    torch.linalg.vector_norm(shifted, dim=1, keepdim=True, out=square)
    square.square_().sub_(frame.mean_square.to(dtype))
    if lengths is not None:
        square.masked_fill_(lengths == 0, math.inf)
    return prepared


def _shift_directed(rows: Tensor, frame: Frame, *, out: Tensor) -> Tensor:
    """Write directed rows less the origin to `out`; return the lengths, (n, 1).

    In float64: nearly parallel rows differ in digits that float32 has not. On the CPU a few rows at
    a time, which stay in its cache.
    """
    size = _ROWS_IN_CACHE if rows.device.type == "cpu" else max(1, len(rows))
    lengths = []
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        copied = rows[part].to(torch.float64, copy=True)
        directed, length = _directed(copied, frame.kind, rows.dtype)
        out[part] = directed.sub_(frame.origin)
        lengths.append(length)
    return torch.cat(lengths) if lengths else out.new_empty(0, 1)


def _directed(rows: Tensor, kind: Kind, came_as: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows divided by their length, for correlation less their own mean first; and that length.

    rows: (n, d), float64, and may be overwritten. came_as: the dtype they had before.
    A row without a direction is zeros, and its length 0: (n, 1).
    """
    if came_as == torch.float64:  # its squares may be too large or too small
        largest = rows.abs().amax(dim=1, keepdim=True)
        rows = torch.ldexp(rows, -torch.frexp(largest).exponent)
    if kind == "correlation":
        constant = (rows == rows[:, :1]).all(dim=1, keepdim=True)
        rows = (rows - rows.mean(dim=1, keepdim=True)).masked_fill_(constant, 0.0)
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows.div_(torch.where(lengths == 0, 1.0, lengths)), lengths


def first_faults(prepared: Tensor) -> Tensor:
    """Numbers of the first row that is not finite, and of the first without a direction: (2,).

    float64; infinity where there is none.
    """
    sums = prepared.sum(dim=1)
    numbers = torch.arange(len(prepared), dtype=torch.float64, device=prepared.device)
    cases = torch.stack([sums.isnan(), sums.isinf()])
    return torch.where(cases, numbers, math.inf).amin(dim=1)


def refuse_faults(name: str, kind: Kind, faults: Tensor) -> None:
    """Raise ValueError that names the first row without a score, if there is one."""
    not_finite, no_direction = faults.tolist()
    if min(not_finite, no_direction) < math.inf:
        if no_direction < not_finite and kind != "raw":
            raise ValueError(f"{name}, row {int(no_direction)}: {NO_DIRECTION[kind]}")
        raise NotFiniteError(f"{name}, row {int(min(not_finite, no_direction))}: not finite")


def refuse_not_finite_rows(name: str, rows: Tensor, start: int = 0) -> None:
    """Raise NotFiniteError for the first row with a NaN or an infinity; start: their number."""
    for row in rows.isfinite().all(dim=1).logical_not().nonzero()[:1].ravel().tolist():
        raise NotFiniteError(f"{name}, row {start + row}: not finite")


def product_dtype(features: Sequence[Tensor], num_rows: int | None = None) -> torch.dtype:
    """float64 where any space has it, or rows are too few to be worth less; else float32.

    num_rows: of the whole data set, where the features are some of it.
    """
    few = (len(features[0]) if num_rows is None else num_rows) <= _FRAME_ROWS
    wide = any(x.dtype == torch.float64 for x in features)
    return torch.float64 if wide or few else torch.float32


def as_features(x: Array, y: Array) -> tuple[Tensor, Tensor]:
    """Two feature spaces as floating-point tensors: (n, d1) and (n, d2), whole numbers as float64.

    Raises ValueError, naming x or y, if they are no dense matrices of real numbers, differ in rows
    or device, or hold a NaN or an infinity.
    """
    refuse_other_rows(x, y)
    first, second = tensor_of(x, "x"), tensor_of(y, "y")
    for name, space in (("x", first), ("y", second)):
        refuse_not_finite(name, space)
    if len(first) != len(second):
        raise ValueError(f"x has {len(first)} rows and y {len(second)}: want the same images")
    if first.device != second.device:
        raise ValueError(f"y: is on {second.device} and x on {first.device}: want one device")
    return first, second


def refuse_not_finite(name: str, space: Tensor) -> None:
    """Raise NotFiniteError that names the first NaN or infinity by its row and column."""
    for start in range(0, len(space), _FRAME_ROWS):
        finite = space[start : start + _FRAME_ROWS].isfinite()
        if not finite.all():
            row = int(finite.all(dim=1).long().argmin())
            column = int(finite[row].long().argmin())
            raise NotFiniteError(f"{name}, row {start + row}, column {column}: not finite")
