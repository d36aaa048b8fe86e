"""How often do shuffled images give as high a score? One product for each shuffle."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from alignctl.metrics.feature_space import CHUNK
from alignctl.metrics.precision import plain_float32
from alignctl.metrics.sums import gram
from alignctl.metrics.sums.pair_sums import PairSums, Statistic
from alignctl.metrics.sums.products import resolution_of
from alignctl.metrics.sums.rows import Kind, frame_of, prepare, product_dtype
from alignctl.randomness import uniforms


def permutations(num_images: int, numbers: Sequence[int], *, seed: int) -> Iterator[Tensor]:
    """Random orders of the images, each a function of the seed and its number: (n,) int64."""
    for number in numbers:
        draws = uniforms(
            seed,
            "permutations",
            epoch=number,
            samples=np.arange(num_images),
            view=0,
            num_draws=1,
        )
        yield torch.from_numpy(np.argsort(draws[:, 0], kind="stable"))


def count_as_high(
    x: Tensor,
    y: Tensor,
    kind: Kind,
    statistics: Sequence[Statistic],
    *,
    orders: Iterator[Tensor],
) -> list[int]:
    """For each statistic, under how many orders of y's rows it is at least what it is unshuffled.

    x: (n, d1), y: (n, d2), rows that all have a direction. The statistics of each space with
    itself do not change, so comparing the cross statistic compares the scores.
    The p-value of N orders is (1 + count) / (1 + N).
    """
    shuffled = _gram_sums(x, y, kind) if _takes_gram(x, y) else _product_sums(x, y, kind)
    observed = shuffled(torch.arange(len(x)))
    # Orders that give the same score, such as those of equal rows, differ by rounding.
    rounding = resolution_of(product_dtype([x, y])) * observed.largest_term
    counts = [0] * len(statistics)
    for order in orders:
        sums = shuffled(order)
        for index, statistic in enumerate(statistics):
            counts[index] += sums.value(statistic) >= observed.value(statistic) - rounding
    return counts


def _takes_gram(x: Tensor, y: Tensor) -> bool:
    return gram.gram_is_smaller(len(x), x.shape[1], y.shape[1])


def _product_sums(x: Tensor, y: Tensor, kind: Kind) -> Callable[[Tensor], PairSums]:
    dtype = product_dtype([x, y])
    spaces = [prepare(space, frame_of(space, kind), dtype)[:, :-1] for space in (x, y)]
    spaces = [space - space.mean(dim=0, dtype=torch.float64).to(dtype) for space in spaces]
    e, f = (space.double().square().sum(dim=1) for space in spaces)

    def sums(order: Tensor) -> PairSums:
        a, b = spaces
        order = order.to(a.device)
        cross = a.new_zeros(a.shape[1], b.shape[1], dtype=torch.float64)
        with plain_float32(a.device.type):
            for start in range(0, len(a), CHUNK):
                part = slice(start, start + CHUNK)
                cross += a[part].T @ b[order[part]]
        return _pair_sums(cross.square().sum(), e, f, order)

    return sums


def _gram_sums(x: Tensor, y: Tensor, kind: Kind) -> Callable[[Tensor], PairSums]:
    a, b = (gram.linear_kernel(space, kind) for space in (x, y))
    whole = b.block(slice(None))

    def sums(order: Tensor) -> PairSums:
        squares = [
            (a.block(part) * whole[order[part]][:, order]).sum() for part in gram.parts(a.count)
        ]
        return _pair_sums(torch.stack(squares).sum(), a.diagonal, b.diagonal, order)

    return sums


def _pair_sums(square: Tensor, e: Tensor, f: Tensor, order: Tensor) -> PairSums:
    norms = ((e - e.mean()) * (f - f.mean())[order]).sum()
    return PairSums(len(e), float(square), float(e.sum()), float(f.sum()), float(norms))
