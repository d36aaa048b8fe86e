"""Everything that linear CKA and cosine RSA of several models need, in one pass over the images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from alignctl.metrics.cka import cka_from
from alignctl.metrics.products import CrossProducts, Pair, column_means
from alignctl.metrics.rsa import rsa_from

__all__ = ["CrossProducts", "Moments", "Origins"]


@dataclass(frozen=True, eq=False)
class Origins:
    """What is subtracted from features before they are multiplied; the same on every process."""

    raw: tuple[Tensor, ...]
    """M of (d_i,), float64, for the features as they are."""
    unit: tuple[Tensor, ...]
    """M of (d_i + 1,), float64, for the features divided by their row's length."""


@dataclass(frozen=True, eq=False)
class Moments:
    """All that linear CKA and cosine RSA of M models need to know of the images seen so far.

    `a + b` merges batches, in any order; `tensors` and `with_tensors` merge across processes.
    Memory: two (d_i, d_j) matrices in float64 for every model and for every pair.
    """

    raw: CrossProducts
    """Of the features as they are."""
    unit: CrossProducts
    """Of the features divided by their row's length, then shifted; with one more column."""

    @staticmethod
    def origins_of(first_chunks: Sequence[Tensor]) -> Origins:
        """Origins close to the mean, from the first rows of each model: M of (n, d_i), n >= 1.

        Any origins give the same scores; the digits that float32 products lose depend on them.
        """
        return Origins(
            tuple(column_means(x) for x in first_chunks),
            tuple(column_means(x, unit=True) for x in first_chunks),
        )

    @classmethod
    def measure(
        cls, features: Sequence[Tensor], pairs: Sequence[Pair], origins: Origins
    ) -> "Moments":
        """The moments of one chunk of rows, which may be the whole data set; never synchronises.

        features: M of (n, d_i), the same images in the same order, on one device; multiplied in
        float32, in float64 if any of them is float64. pairs: the (i, j) to compare.
        Thousands of rows at a time are best: each call allocates all its sums anew.
        Raises ValueError if the shapes do not fit together; rows that are zero or not finite are
        reported, by row, when a score or `tensors` is asked for.
        """
        return cls(
            CrossProducts.measure(features, pairs, origins.raw),
            CrossProducts.measure(features, pairs, origins.unit, unit=True),
        )

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.raw + other.raw, self.unit + other.unit)

    def tensors(self) -> list[Tensor]:
        """The sums themselves, in float64, for a SUM all-reduce in place; first comes the count.

        Raises ValueError, naming the row, if a row is zero or not finite.
        """
        self._refuse_faults()
        count = self.raw.totals[0].new_tensor(float(self.raw.count))
        sums = [
            tensor
            for part in (self.raw, self.unit)
            for tensor in (*part.totals, *part.products.values())
        ]
        return [count, *sums]

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Moments":
        """The moments whose `tensors()` are these, with the origins and pairs of this one."""
        count, *rest = tensors
        half = len(rest) // 2
        rows = int(count.item())
        return Moments(_refill(self.raw, rows, rest[:half]), _refill(self.unit, rows, rest[half:]))

    def linear_cka(self, i: int, j: int) -> float:
        """Linear CKA of models i and j, in [0, 1]: see `alignctl.metrics.linear_cka`."""
        return cka_from(self.raw, i, j)

    def rsa(self, i: int, j: int) -> float:
        """RSA of models i and j, cosine distance and Pearson: see `alignctl.metrics.rsa`."""
        self._refuse_faults()
        return rsa_from(self.unit, i, j)

    def _refuse_faults(self) -> None:
        self.raw.refuse_faults("not finite")
        self.unit.refuse_faults("all zeros, so it has no cosine")


def _refill(sums: CrossProducts, count: int, tensors: Sequence[Tensor]) -> CrossProducts:
    num_spaces = len(sums.totals)
    return replace(
        sums,
        count=count,
        totals=tuple(tensors[:num_spaces]),
        products=dict(zip(sums.products, tensors[num_spaces:], strict=True)),
    )
