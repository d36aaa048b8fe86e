"""Sums over images from which CKA and RSA follow: one pass, no n x n matrix, merged by addition.

With U = (X - o) s for a fixed frame (o, s), the centred product of two spaces is
Xc'Yc = (U'V - t_u t_v' / n) / (s_u s_v), where t_u and t_v are column sums. The closer the origin
is to the mean, the fewer digits a float32 product spends on the offset.
Rows carry one more column, their squared length |u|^2. Its products give what debiased CKA and RSA
need of the lengths about the mean: |u - m|^2 = |u|^2 - 2 m.u + |m|^2, a combination of the columns
with the coefficients (-2 m, 1), the `lever`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from alignctl.metrics.arrays import refuse_unusable
from alignctl.metrics.feature_space import CHUNK
from alignctl.metrics.precision import plain_float32
from alignctl.metrics.sums.pair_sums import PairSums, Spread, Statistic, refuse_few_rows, spread_of
from alignctl.metrics.sums.rows import (
    Frame,
    NotFiniteError,
    first_faults,
    prepare,
    product_dtype,
    refuse_faults,
)

Pair = tuple[int, int]

_SUMMED = 64  # rows that are added up before float64: their sum loses next to nothing
_STRIP = 512  # columns of one piece of a self product: what is below the diagonal is mirrored


@dataclass(frozen=True, eq=False)
class CentredForm:
    """The centred product of two spaces, x and y less their means, and their levers; float64."""

    cross: Tensor
    """X'Y: (d1, d2)."""
    lever_x: Tensor
    """Sum over images of |y|^2 x: (d1,)."""
    lever_y: Tensor
    """Sum over images of |x|^2 y: (d2,)."""


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """Sums over the rows of M spaces, each in its frame; `a + b` merges them."""

    frames: tuple[Frame, ...]
    """Of every space; all of one kind."""
    count: int
    """Rows seen."""
    totals: tuple[Tensor, ...]
    """M of (d_i + 1,), float64: sums of the prepared rows."""
    products: Mapping[Pair, Tensor]
    """(i, j) -> (d_i + 1, d_j + 1), float64: products of prepared rows; every (i, i), the pairs."""
    faults: Tensor
    """(M, 2), float64: the first row that is not finite, and the first without a direction."""
    resolution: float
    """Relative size, of what is left where sums cancel, below which it is rounding alone."""
    names: tuple[str, ...]
    """What the spaces are called in errors."""

    @classmethod
    def measure(
        cls,
        features: Sequence[Tensor],
        pairs: Sequence[Pair],
        frames: Sequence[Frame],
        names: Sequence[str] = (),
    ) -> "CrossProducts":
        """The sums over all rows of `features`, without waiting for the device.

        features: M of (n, d_i), one device, floating point. Multiplied in float32, in float64 if
        any of them is or if there are at most 1024 rows; accumulated in float64.
        pairs: the (i, j) whose cross products are wanted. frames: M of `frame_of`. names: of the
        spaces, in errors.
        Raises ValueError if the shapes do not fit together.
        """
        check_features(features, frames)
        growing = GrowingProducts(pairs, frames, names)
        growing.add(features)
        return growing.finish()

    def __add__(self, other: "CrossProducts") -> "CrossProducts":
        same = len(self.frames) == len(other.frames) and all(
            a.same_as(b) for a, b in zip(self.frames, other.frames, strict=True)
        )
        if not same or self.products.keys() != other.products.keys():
            raise ValueError("cannot merge sums of different origins or pairs")
        return CrossProducts(
            self.frames,
            self.count + other.count,
            tuple(a + b for a, b in zip(self.totals, other.totals, strict=True)),
            {pair: product + other.products[pair] for pair, product in self.products.items()},
            torch.minimum(self.faults, other.faults + self.count),
            max(self.resolution, other.resolution),
            self.names,
        )

    @property
    def is_float32(self) -> bool:
        """Whether any product was taken in float32."""
        return self.resolution > torch.finfo(torch.float32).eps

    def refuse_faults(self, spaces: Sequence[int] | None = None) -> None:
        """Raise ValueError that names the first row without a score of all spaces, or of some."""
        for i in range(len(self.names)) if spaces is None else spaces:
            refuse_faults(self.names[i], self.frames[i].kind, self.faults[i])

    def has_fault(self, i: int) -> bool:
        """Whether a row of space i has no score."""
        return bool((self.faults[i] < math.inf).any())

    def refuse_not_finite(self) -> None:
        """Raise NotFiniteError that names the first row that is not finite, if there is one."""
        faults = self.faults.tolist()
        for name, frame, (row, no_direction) in zip(self.names, self.frames, faults, strict=True):
            first = min(row, no_direction) if frame.kind == "raw" else row
            if first < math.inf:
                raise NotFiniteError(f"{name}, row {int(first)}: not finite")

    def mean_square(self, i: int) -> Tensor:
        """Of the lengths of the prepared rows of space i, in their frame: (), float64."""
        return self.products[i, i].diagonal()[:-1].sum() / self.count

    def mean(self, i: int) -> Tensor:
        """Of the prepared rows of space i, without their squared lengths: (d_i,), float64."""
        return self.totals[i][:-1] / self.count

    def centred(self, i: int, j: int) -> Tensor:
        """Xc'Yc of spaces i and j, in their frames: (d_i, d_j), float64.

        Raises ValueError if (i, j) is not a measured pair.
        """
        return self._augmented(i, j)[:-1, :-1]

    def form(self, i: int, j: int) -> CentredForm:
        """All that is needed to tell what single rows of spaces i and j add to the sums."""
        augmented = self._augmented(i, j)
        return CentredForm(
            augmented[:-1, :-1],
            augmented[:-1] @ self._lever(j),
            self._lever(i) @ augmented[:, :-1],
        )

    def pair_sums(self, i: int, j: int) -> PairSums:
        """All that the scores of spaces i and j need.

        Raises ValueError if a row has no score, or all rows of a space are the same.
        """
        if (i, j) not in self._found:
            self.refuse_not_finite()
            self.refuse_faults((i, j))
            augmented = self._augmented(i, j)
            square = augmented[:-1, :-1].square().sum()
            norms = self._lever(i) @ (augmented @ self._lever(j))
            found = PairSums(self.count, float(square), self._norm(i), self._norm(j), float(norms))
            if not math.isfinite(found.square + found.norms):
                named = " and ".join(dict.fromkeys((self.names[i], self.names[j])))
                raise ValueError(
                    f"{named}: squares leave the range of the numbers: "
                    "measure in float64, with origins of rows as large as all others"
                )
            self._found[i, j] = found
        return self._found[i, j]

    @cached_property
    def _found(self) -> dict[Pair, PairSums]:
        """What `pair_sums` has computed before: it reads whole matrices."""
        return {}

    def spread(self, statistic: Statistic, i: int, j: int) -> Spread:
        """The three values that one score of spaces i and j is made of.

        Raises ValueError where there is no score: see `pair_sums` and `spread_of`.
        """
        refuse_few_rows(statistic, self.count)
        return spread_of(
            statistic,
            *(self.pair_sums(*pair) for pair in ((i, j), (i, i), (j, j))),
            resolution=self.resolution,
            names=(self.names[i], self.names[j]),
        )

    def _augmented(self, i: int, j: int) -> Tensor:
        if (i, j) in self.products:
            product = self.products[i, j]
        elif (j, i) in self.products:
            product = self.products[j, i].T
        else:
            raise ValueError(f"({i}, {j}) is not a measured pair; {list(self.products)} are")
        return torch.addr(product, self.totals[i], self.totals[j], alpha=-1 / self.count)

    def _lever(self, i: int) -> Tensor:
        return torch.cat([-2 * self.mean(i), self.totals[i].new_ones(1)])

    def _norm(self, i: int) -> float:
        """Sum of the squared distances of the rows of space i from their mean."""
        about_origin = self.products[i, i].diagonal()[:-1]
        about_mean = about_origin - self.totals[i][:-1].square() / self.count
        if not about_mean.sum() > self.resolution * about_origin.sum():
            raise ValueError(f"{self.names[i]}: every row is the same")
        return float(about_mean.sum())


class GrowingProducts:
    """Adds up chunks of rows in place; `finish` gives the sums so far, once."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        frames: Sequence[Frame],
        names: Sequence[str] = (),
        *,
        first_row: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        spaces = range(len(frames))
        self._frames = tuple(frames)
        self._names = tuple(names) or tuple(f"features[{i}]" for i in spaces)
        self._count, self._first_row, self._dtype = 0, first_row, dtype
        self._resolution = resolution_of(torch.float64)
        self._totals = [frame.origin.new_zeros(len(frame.origin) + 1) for frame in frames]
        self._faults = frames[0].origin.new_full((len(frames), 2), math.inf)
        self._products = {
            (i, j): self._totals[i].new_zeros(len(self._totals[i]), len(self._totals[j]))
            for i, j in dict.fromkeys([*((i, i) for i in spaces), *pairs])
        }

    def add(self, features: Sequence[Tensor]) -> None:
        """Add M of (n, d_i): see `CrossProducts.measure`."""
        check_features(features, self._frames)
        dtype = self._dtype or product_dtype(features)
        self._resolution = max(self._resolution, resolution_of(dtype))
        with torch.no_grad(), plain_float32(features[0].device.type):
            for start, chunk in prepared_chunks(features, self._frames, dtype):
                for i, rows in enumerate(chunk):
                    self._totals[i] += _column_sums(rows)
                    faults = first_faults(rows) + (self._first_row + self._count + start)
                    self._faults[i] = torch.minimum(self._faults[i], faults)
                for (i, j), product in self._products.items():
                    if i == j:
                        _add_self_product(product, chunk[i])
                    else:
                        product.add_(chunk[i].T @ chunk[j])
        self._count += len(features[0])

    def finish(self) -> CrossProducts:
        """The sums over all rows added."""
        for i in range(len(self._totals)):
            _mirror(self._products[i, i])
        return CrossProducts(
            self._frames,
            self._count,
            tuple(self._totals),
            self._products,
            self._faults,
            self._resolution,
            self._names,
        )


def resolution_of(dtype: torch.dtype) -> float:
    """Relative size, of what is left where sums cancel, below which it is rounding alone."""
    return 16 * torch.finfo(dtype).eps


def prepared_chunks(
    features: Sequence[Tensor],
    frames: Sequence[Frame],
    dtype: torch.dtype,
    size: int = CHUNK,
) -> Iterator[tuple[int, list[Tensor]]]:
    """First row and prepared rows, at most `size` at a time."""
    for start in range(0, len(features[0]), size):
        part = slice(start, start + size)
        yield start, [prepare(x[part], f, dtype) for x, f in zip(features, frames, strict=True)]


def check_features(features: Sequence[Tensor], frames: Sequence[Frame]) -> None:
    """Raise ValueError where features and frames do not fit together."""
    if not features or len(features) != len(frames):
        raise ValueError(f"{len(features)} feature spaces and {len(frames)} origins")
    for i, (x, frame) in enumerate(zip(features, frames, strict=True)):
        refuse_unusable(x, f"features[{i}]", "floating-point")
        if not x.is_floating_point():
            raise ValueError(
                f"features[{i}]: want floating-point (n, d), not {x.dtype} {tuple(x.shape)}"
            )
        if len(x) != len(features[0]):
            raise ValueError(
                f"features[{i}] has {len(x)} rows and features[0] {len(features[0])}: "
                "want the same images"
            )
        if frame.origin.shape != x.shape[1:]:
            raise ValueError(
                f"origins[{i}] has shape {tuple(frame.origin.shape)}, not ({x.shape[1]},)"
            )


def _column_sums(rows: Tensor) -> Tensor:
    """(d + 1,), float64: few rows in their own precision, then these sums in float64."""
    whole = len(rows) // _SUMMED * _SUMMED
    few = rows[:whole].view(-1, _SUMMED, rows.shape[1]).sum(dim=1)
    return few.sum(dim=0, dtype=torch.float64) + rows[whole:].sum(dim=0, dtype=torch.float64)


def _add_self_product(product: Tensor, rows: Tensor) -> None:
    """Add rows'rows in place, except for the strips below the diagonal."""
    for start in range(0, len(product), _STRIP):
        strip = slice(start, start + _STRIP)
        product[strip, start:] += rows[:, strip].T @ rows[:, start:]


def _mirror(product: Tensor) -> None:
    for stop in range(_STRIP, len(product), _STRIP):
        strip = slice(stop - _STRIP, stop)
        product[stop:, strip] = product[strip, stop:].T
