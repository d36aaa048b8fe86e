"""Everything that CKA and RSA of several models need, in one pass over the images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from alignctl.metrics.arguments import check_choice, check_flag
from alignctl.metrics.arrays import refuse_unusable
from alignctl.metrics.sums.bounds import AlignmentBounds, bounds_from
from alignctl.metrics.sums.pair_sums import Statistic
from alignctl.metrics.sums.products import CrossProducts, GrowingProducts, Pair, resolution_of
from alignctl.metrics.sums.rows import KIND_OF_DISTANCE, KIND_OF_KERNEL, Frame, Kind, frame_of

USUAL_KINDS: tuple[Kind, ...] = ("raw", "unit")


@dataclass(frozen=True, eq=False)
class Origins:
    """What features are shifted and scaled by before they are multiplied; alike on every process.

    Any origins give the same scores; the digits that float32 products lose depend on them.
    """

    frames: Mapping[Kind, tuple[Frame, ...]]
    """For each kind of rows, one for each model."""

    def tensors(self) -> list[Tensor]:
        """All of them, float64, for a broadcast in place."""
        return [t for frames in self.frames.values() for frame in frames for t in frame.tensors()]


@dataclass(frozen=True, eq=False)
class Moments:
    """All that CKA and RSA of M models need to know of the images seen so far.

    `a + b` merges batches, in any order; `tensors` and `with_tensors` merge across processes.
    Memory: a (d_i + 1, d_j + 1) matrix in float64 for every model, every pair and kind of rows.
    From `raw` rows follow linear CKA and RSA on squared Euclidean distance, from `unit` rows CKA
    with the cosine kernel, RSA on cosine distance and the bounds, from `correlation` rows RSA on
    correlation distance.
    """

    parts: Mapping[Kind, CrossProducts]

    @staticmethod
    def origins_of(first_chunks: Sequence[Tensor], kinds: Sequence[Kind] = USUAL_KINDS) -> Origins:
        """Origins close to the mean, from the first rows of each model: M of (n, d_i), n >= 1.

        kinds: the rows to measure: `raw`, `unit`, `correlation`.
        """
        for kind in kinds:
            check_choice("kinds", kind, get_args(Kind))
        for i, x in enumerate(first_chunks):
            refuse_unusable(x, f"features[{i}]")
        return Origins({kind: tuple(frame_of(x, kind) for x in first_chunks) for kind in kinds})

    @classmethod
    def measure(
        cls,
        features: Sequence[Tensor],
        pairs: Sequence[Pair],
        origins: Origins,
        names: Sequence[str] = (),
    ) -> "Moments":
        """The moments of one chunk of rows, which may be the whole data set; never synchronises.

        features: M of (n, d_i), the same images in the same order, on one device; multiplied in
        float32, in float64 if any of them is float64 or n <= 1024. pairs: the (i, j) to compare.
        names: what the models are called in errors.
        Thousands of rows at a time are best: each call allocates all its sums anew.
        Raises ValueError if the shapes do not fit together; rows that are zero or not finite are
        reported, by row, when a score or `tensors` is asked for.
        """
        return cls.measure_all([features], pairs, origins, names)

    @classmethod
    def measure_all(
        cls,
        chunks: Iterable[Sequence[Tensor]],
        pairs: Sequence[Pair],
        origins: Origins,
        names: Sequence[str] = (),
        *,
        first_row: int = 0,
        dtype: torch.dtype | None = None,
    ) -> "Moments":
        """The moments of many chunks, added up in place: see `measure`.

        first_row: what errors call the first of them. dtype: to multiply in, float32 or float64.
        """
        for i, j in pairs:
            _check_models(i, j, count=min(map(len, origins.frames.values()), default=0))
        growing = {
            kind: GrowingProducts(pairs, frames, names, first_row=first_row, dtype=dtype)
            for kind, frames in origins.frames.items()
        }
        for features in chunks:
            for part in growing.values():
                part.add(features)
        return cls({kind: part.finish() for kind, part in growing.items()})

    @property
    def count(self) -> int:
        """Images seen."""
        return next(iter(self.parts.values())).count

    @property
    def dtype(self) -> torch.dtype:
        """What the rows were multiplied in: float32 if any of them was."""
        wide = not any(part.is_float32 for part in self.parts.values())
        return torch.float64 if wide else torch.float32

    def zeros(self, size: int) -> Tensor:
        """(size,), float64, where the sums are."""
        return next(iter(self.parts.values())).faults.new_zeros(size)

    def __add__(self, other: "Moments") -> "Moments":
        if self.parts.keys() != other.parts.keys():
            raise ValueError("cannot merge moments of different kinds of rows")
        return Moments({kind: part + other.parts[kind] for kind, part in self.parts.items()})

    def tensors(self) -> list[Tensor]:
        """The sums themselves, in float64, for a SUM all-reduce in place; first come the count and
        how many of the processes multiplied in float32.

        Raises ValueError, naming the row, if a row is not finite or has no direction.
        """
        for part in self.parts.values():
            part.refuse_faults()
        return self.unchecked_tensors()

    def unchecked_tensors(self) -> list[Tensor]:
        """`tensors` whatever the rows are; the faults have to be shared apart from them."""
        sums = [t for part in self.parts.values() for t in (*part.totals, *part.products.values())]
        # new_full: filling a tensor waits for no device, copying one there does
        seen = sums[0].new_full((2,), float(self.count))
        seen[1] = float(self.dtype == torch.float32)
        return [seen, *sums]

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Moments":
        """The moments whose `tensors()` are these, with the origins and pairs of this one."""
        seen, *rest = tensors
        (rows, in_float32), size = seen.tolist(), len(rest) // len(self.parts)
        dtype = torch.float32 if in_float32 else torch.float64
        return Moments(
            {
                kind: _refill(part, int(rows), dtype, rest[index * size : (index + 1) * size])
                for index, (kind, part) in enumerate(self.parts.items())
            }
        )

    def faults(self) -> dict[Kind, Tensor]:
        """For each kind of rows, the first of each model at fault: see `CrossProducts.faults`."""
        return {kind: part.faults for kind, part in self.parts.items()}

    def with_faults(self, several: Sequence[Mapping[Kind, Tensor]]) -> "Moments":
        """The moments with the first of these faults of all processes."""
        return Moments(
            {
                kind: replace(
                    part,
                    faults=torch.stack([each[kind].to(part.faults) for each in several]).amin(
                        dim=0
                    ),
                )
                for kind, part in self.parts.items()
            }
        )

    def linear_cka(
        self, i: int, j: int, *, debiased: bool = False, kernel: str = "linear"
    ) -> float:
        """CKA of models i and j: see `alignctl.metrics.linear_cka`. kernel: linear or cosine."""
        check_flag("debiased", debiased)
        check_choice("kernel", kernel, KIND_OF_KERNEL)
        statistic: Statistic = "debiased" if debiased else "biased"
        return self.part(KIND_OF_KERNEL[kernel]).spread(statistic, i, j).score

    def rsa(self, i: int, j: int, *, distance: str = "cosine") -> float:
        """RSA of models i and j, Pearson: see `alignctl.metrics.rsa`.

        distance: cosine, correlation or sqeuclidean, where its kind of rows was measured.
        """
        check_choice("distance", distance, KIND_OF_DISTANCE)
        return self.part(KIND_OF_DISTANCE[distance]).spread("distances", i, j).score

    def bounds(self, i: int, j: int) -> AlignmentBounds:
        """How far the cosines of model j are from those of model i, and what follows from it."""
        part = self.part("unit")
        _check_models(i, j, count=len(part.names))
        sums = (part.pair_sums(*pair) for pair in ((i, j), (i, i), (j, j)))
        return bounds_from(*sums, resolution=part.resolution, names=(part.names[i], part.names[j]))

    def part(self, kind: Kind) -> CrossProducts:
        """The sums over one kind of rows; ValueError where it was not measured."""
        if kind not in self.parts:
            raise ValueError(f"{kind} rows were not measured; {', '.join(self.parts)} were")
        return self.parts[kind]


def _check_models(i: int, j: int, *, count: int) -> None:
    if not (0 <= i < count and 0 <= j < count):
        raise ValueError(f"pairs: ({i}, {j}) is no pair of {count} models, 0 to {count - 1}")


def _refill(
    sums: CrossProducts, count: int, dtype: torch.dtype, tensors: Sequence[Tensor]
) -> CrossProducts:
    num_spaces = len(sums.totals)
    return replace(
        sums,
        count=count,
        resolution=resolution_of(dtype),
        totals=tuple(tensors[:num_spaces]),
        products=dict(zip(sums.products, tensors[num_spaces:], strict=True)),
    )
