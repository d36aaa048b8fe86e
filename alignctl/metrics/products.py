"""Sums over images from which CKA and RSA follow: one pass, no n x n matrix, merged by addition.

With U = X - o for a fixed origin o, the centred product of two feature spaces is
Xc'Yc = U'V - s_u s_v' / n, where s_u and s_v are the column sums of U and V. The closer the origin
is to the mean, the fewer digits a float32 product of U and V spends on the offset.
Unit rows z carry one more column, |z - o|^2: cosine RSA needs its products too (see `rsa_from`),
and from float32 products of z alone they would be lost where all rows are nearly parallel.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Pair = tuple[int, int]

_CHUNK = 8192  # rows of one float32 product, before it is added to the float64 sums
_STRIP = 512  # rows of one piece of a self product: what is below the diagonal is mirrored
_ORIGIN_ROWS = 1024  # enough to bring the origin near the mean


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """Sums over the rows of M feature spaces, each shifted by its origin; `a + b` merges them."""

    origins: tuple[Tensor, ...]
    """M of (d_i,), float64: subtracted from every row."""
    count: int
    """Rows seen."""
    totals: tuple[Tensor, ...]
    """M of (d_i,), float64: sums of the shifted rows."""
    products: Mapping[Pair, Tensor]
    """(i, j) -> (d_i, d_j), float64: products of shifted rows; every (i, i), and the pairs."""
    faults: Tensor
    """(M,), float64: the first row that is not finite, infinity where all are."""
    resolution: float
    """Relative size, of what is left where sums cancel, below which it is rounding alone."""

    @classmethod
    def measure(
        cls,
        features: Sequence[Tensor],
        pairs: Sequence[Pair],
        origins: Sequence[Tensor],
        *,
        unit: bool = False,
    ) -> "CrossProducts":
        """The sums over all rows of `features`, without waiting for the device.

        features: M of (n, d_i), one device, floating point. Multiplied in float32 (in float64 if
        any of them is), accumulated in float64. pairs: the (i, j) whose cross products are wanted.
        unit: divide each row by its length first and append its squared distance from the origin,
        so that each space has d_i + 1 columns. origins: M of `column_means`, with the same `unit`.
        Raises ValueError if the shapes do not fit together.
        """
        _check_features(features, origins, unit=unit)
        dtype = torch.float64 if any(x.dtype == torch.float64 for x in features) else torch.float32
        totals = [torch.zeros_like(origin) for origin in origins]
        faults = torch.full(
            (len(features),), math.inf, dtype=torch.float64, device=totals[0].device
        )
        products = {
            (i, j): totals[i].new_zeros(len(totals[i]), len(totals[j]))
            for i, j in dict.fromkeys([*((i, i) for i in range(len(features))), *pairs])
        }
        with torch.no_grad(), _plain_float32(totals[0].device.type):
            for start in range(0, len(features[0]), _CHUNK):
                chunk = [
                    _shift(x[start : start + _CHUNK].to(dtype), origin.to(dtype), unit=unit)
                    for x, origin in zip(features, origins, strict=True)
                ]
                for i, shifted in enumerate(chunk):
                    totals[i] += shifted.sum(dim=0, dtype=torch.float64)
                    faults[i] = torch.minimum(faults[i], _first_fault(shifted) + start)
                for (i, j), product in products.items():
                    if i == j:
                        _add_self_product(product, chunk[i])
                    else:
                        product.add_(chunk[i].T @ chunk[j])
            for i in range(len(features)):
                _mirror(products[i, i])
        resolution = 16 * torch.finfo(dtype).eps
        return cls(tuple(origins), len(features[0]), tuple(totals), products, faults, resolution)

    def __add__(self, other: "CrossProducts") -> "CrossProducts":
        if not _same(self.origins, other.origins) or self.products.keys() != other.products.keys():
            raise ValueError("cannot merge sums of different origins or pairs")
        return CrossProducts(
            self.origins,
            self.count + other.count,
            tuple(a + b for a, b in zip(self.totals, other.totals, strict=True)),
            {pair: product + other.products[pair] for pair, product in self.products.items()},
            torch.minimum(self.faults, other.faults + self.count),
            max(self.resolution, other.resolution),
        )

    def centred(self, i: int, j: int) -> Tensor:
        """Xc'Yc of spaces i and j: (d_i, d_j), float64. ValueError if they are not a pair."""
        if (i, j) in self.products:
            product = self.products[i, j]
        elif (j, i) in self.products:
            product = self.products[j, i].T
        else:
            raise ValueError(f"({i}, {j}) is not a measured pair; {list(self.products)} are")
        return torch.addr(product, self.totals[i], self.totals[j], alpha=-1 / self.count)

    def spread(self, i: int) -> Tensor:
        """The diagonal of `centred(i, i)`: (d_i,), float64.

        Raises ValueError if its sum is zero to rounding: all rows of space i are equal.
        """
        about_origin = self.products[i, i].diagonal()
        about_mean = about_origin - self.totals[i].square() / self.count
        if not about_mean.isfinite().all():
            raise ValueError(f"features[{i}] are too large to be squared")
        if not about_mean.sum() > self.resolution * about_origin.sum():
            raise ValueError(f"features[{i}] are constant: every row is the same")
        return about_mean

    def refuse_faults(self, problem: str) -> None:
        """Raise ValueError that names the first row which is not finite, if there is one."""
        for i, row in enumerate(self.faults.tolist()):
            if row < math.inf:
                raise ValueError(f"features[{i}], row {int(row)}: {problem}")


def column_means(rows: Tensor, *, unit: bool = False) -> Tensor:
    """Mean of some of the rows: (d,) or, if unit, (d + 1,); float64. Exact if they are equal."""
    exact = rows[:: max(1, len(rows) // _ORIGIN_ROWS)].detach().double()
    if unit:
        exact = exact / torch.linalg.vector_norm(exact, dim=1, keepdim=True)
    # A row without a direction is named when it is measured; here it would spoil all the others.
    exact = exact[exact.sum(dim=1).isfinite()]
    if len(exact) == 0:
        return exact.new_zeros(rows.shape[1] + unit)
    mean = exact[0] + (exact - exact[0]).mean(dim=0)
    if not unit:
        return mean
    return torch.cat([mean, (exact - mean).square().sum(dim=1).mean(dim=0, keepdim=True)])


def as_features(x: Tensor | np.ndarray[Any, Any], y: Tensor | np.ndarray[Any, Any]) -> list[Tensor]:
    """Two feature spaces as floating-point tensors: (n, d1) and (n, d2), whole numbers as float64.

    Raises ValueError if they are no matrices, differ in rows, or hold a NaN or an infinity.
    """
    spaces = [_as_tensor(x), _as_tensor(y)]
    for name, space in zip("xy", spaces, strict=True):
        if space.ndim != 2 or space.is_complex():
            raise ValueError(f"{name}: want real (n, d), not {space.dtype} {tuple(space.shape)}")
        finite = space.isfinite().all(dim=1)
        if not finite.all():
            raise ValueError(f"{name}, row {int(finite.long().argmin())}: not finite")
    if len(spaces[0]) != len(spaces[1]):
        raise ValueError(
            f"x has {len(spaces[0])} rows and y {len(spaces[1])}: want the same images"
        )
    return [space if space.is_floating_point() else space.double() for space in spaces]


def _as_tensor(values: Tensor | np.ndarray[Any, Any]) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    # torch warns of read-only memory (a memory-mapped file) and refuses negative strides.
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def _check_features(features: Sequence[Tensor], origins: Sequence[Tensor], *, unit: bool) -> None:
    if not features or len(features) != len(origins):
        raise ValueError(f"{len(features)} feature spaces and {len(origins)} origins")
    for i, (x, origin) in enumerate(zip(features, origins, strict=True)):
        if x.ndim != 2 or not x.is_floating_point():
            raise ValueError(
                f"features[{i}]: want floating-point (n, d), not {x.dtype} {tuple(x.shape)}"
            )
        if len(x) != len(features[0]):
            raise ValueError(
                f"features[{i}] has {len(x)} rows and features[0] {len(features[0])}: "
                "want the same images"
            )
        if origin.shape != (x.shape[1] + unit,):
            raise ValueError(
                f"origins[{i}] has shape {tuple(origin.shape)}, not ({x.shape[1] + unit},)"
            )


def _shift(rows: Tensor, origin: Tensor, *, unit: bool) -> Tensor:
    """Rows less the origin: (n, d) or, if unit, (n, d + 1), the distance in the last column."""
    if not unit:
        return rows - origin
    shifted = rows.new_empty(len(rows), len(origin))
    unit_rows, squared_distance = shifted[:, :-1], shifted[:, -1]
    torch.div(rows, torch.linalg.vector_norm(rows, dim=1, keepdim=True), out=unit_rows)
    unit_rows -= origin[:-1]
    torch.sub(torch.linalg.vector_norm(unit_rows, dim=1).square(), origin[-1], out=squared_distance)
    return shifted


def _first_fault(shifted: Tensor) -> Tensor:
    """Number of the first row that is not finite, infinity if there is none: (), float64."""
    numbers = torch.arange(len(shifted), dtype=torch.float64, device=shifted.device)
    return numbers.masked_fill(shifted.sum(dim=1).isfinite(), math.inf).amin()


def _add_self_product(product: Tensor, shifted: Tensor) -> None:
    """Add shifted'shifted in place, except for the strips below the diagonal."""
    for start in range(0, len(product), _STRIP):
        strip = slice(start, start + _STRIP)
        product[strip, start:] += shifted[:, strip].T @ shifted[:, start:]


def _mirror(product: Tensor) -> None:
    for stop in range(_STRIP, len(product), _STRIP):
        strip = slice(stop - _STRIP, stop)
        product[stop:, strip] = product[strip, stop:].T


def _same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    return len(ours) == len(theirs) and all(
        a is b or torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)
    )


@contextmanager
def _plain_float32(device_type: str) -> Iterator[None]:
    """Autocast, TF32 and bfloat16 products off inside, and as they were afterwards."""
    backends: list[Any] = [
        getattr(module, "matmul", None) for module in (torch.backends.cuda, torch.backends.mkldnn)
    ]
    with torch.autocast(device_type, enabled=False):
        if not all(hasattr(backend, "fp32_precision") for backend in backends):  # torch < 2.9
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(before)
            return
        # Per backend: the global getter fails where a program has used these settings itself.
        previous = [backend.fp32_precision for backend in backends]
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            yield
        finally:
            for backend, precision in zip(backends, previous, strict=True):
                backend.fp32_precision = precision
