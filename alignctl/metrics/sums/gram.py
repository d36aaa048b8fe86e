"""The same sums from n x n kernel matrices, in blocks of rows: for few images, or any kernel."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from alignctl.metrics.sums.pair_sums import PairRows, refuse_few_rows
from alignctl.metrics.sums.rows import Frame, Kind, first_faults, frame_of, prepare, refuse_faults

_BLOCK_ENTRIES = 2**23  # of a kernel matrix at a time: 64 MiB


@dataclass(frozen=True, eq=False)
class CentredKernel:
    """A kernel matrix less its row and column means, computed a block of rows at a time."""

    count: int
    """n."""
    diagonal: Tensor
    """(n,), float64."""
    block: Callable[[slice], Tensor]
    """Rows of the matrix: (m, n), float64."""
    num_bytes: int
    """About what it keeps in memory: the matrix where that is one block, else rows."""

    @cached_property
    def own_rows(self) -> PairRows:
        """What each image adds to the sums of the matrix with itself."""
        return pair_rows(self, self)


def gram_is_smaller(num_rows: int, dim_x: int, dim_y: int) -> bool:
    """Whether n x n products take fewer operations than products of features."""
    return 2 * num_rows < dim_x + dim_y


def linear_kernel(
    features: Tensor, kind: Kind = "raw", name: str = "x", frame: Frame | None = None
) -> CentredKernel:
    """Inner products of rows, in float64: from (n, d), any floating-point dtype.

    frame: of this kind, where kernels of several batches must have one scale.
    Raises ValueError, naming the space and the row, if a row is not finite or has no direction.
    """
    prepared = prepare(features, frame or frame_of(features, kind), torch.float64)
    refuse_faults(name, kind, first_faults(prepared))
    rows = prepared[:, :-1]
    rows -= rows.mean(dim=0)
    lengths = rows.square().sum(dim=1)
    block = _once(lambda part: rows[part] @ rows.T, len(rows))
    return CentredKernel(len(rows), lengths, block, _num_bytes(rows))


def rbf_kernel(features: Tensor, bandwidth: float = 1.0, name: str = "x") -> CentredKernel:
    """exp(-|x_i - x_j|^2 / (2 sigma^2)), sigma = bandwidth times the median distance, in float64.

    features: (n, d). Raises ValueError for n < 2, and if the median distance is 0: half of all
    pairs are equal.
    Source: Kornblith et al. 2019, section 4; Gretton et al. 2012 for the median.
    """
    refuse_few_rows("biased", len(features))
    rows = prepare(features, frame_of(features), torch.float64)[:, :-1]
    scale = -0.5 / (bandwidth * _median_distance(rows, name)) ** 2
    means = torch.cat([_kernel_rows(rows, part, scale).mean(dim=1) for part in parts(len(rows))])
    grand = means.mean()

    def block(part: slice) -> Tensor:
        return _kernel_rows(rows, part, scale) - means[part, None] - means + grand

    diagonal = 1 - 2 * means + grand
    return CentredKernel(len(rows), diagonal, _once(block, len(rows)), _num_bytes(rows))


def pair_rows(x: CentredKernel, y: CentredKernel) -> PairRows:
    """What each image adds to the sums of two kernel matrices; O(block n) memory."""
    squares, levers_x, levers_y = [], [], []
    for part in parts(x.count):
        a = x.block(part)
        b = a if y is x else y.block(part)
        squares.append((a * b).sum(dim=1))
        levers_x.append(a @ y.diagonal)
        levers_y.append(b @ x.diagonal)
    return PairRows(
        torch.cat(squares), torch.cat(levers_x), torch.cat(levers_y), x.diagonal, y.diagonal
    )


def is_one_block(num_rows: int) -> bool:
    """Whether a kernel matrix is so small that it is computed once, and holds no features."""
    return num_rows**2 <= _BLOCK_ENTRIES


def parts(num_rows: int) -> list[slice]:
    """Blocks of rows that fit the memory."""
    size = max(1, _BLOCK_ENTRIES // num_rows)
    return [slice(start, start + size) for start in range(0, num_rows, size)]


def _once(block: Callable[[slice], Tensor], count: int) -> Callable[[slice], Tensor]:
    """The same blocks; of a matrix that is one block, computed now, so that features can go."""
    if not is_one_block(count):
        return block
    matrix = block(slice(None))
    return lambda part: matrix[part]


def _num_bytes(rows: Tensor) -> int:
    entries = len(rows) ** 2 if is_one_block(len(rows)) else rows.numel()
    return entries * rows.element_size()


def _kernel_rows(rows: Tensor, part: slice, scale: float) -> Tensor:
    return _squared_distances(rows, part).mul_(scale).exp_()


def _squared_distances(rows: Tensor, part: slice) -> Tensor:
    """(m, n); the rows are near the origin, so that little cancels."""
    lengths = rows.square().sum(dim=1)
    return torch.addmm(lengths[part, None] + lengths, rows[part], rows.T, alpha=-2).clamp_(min=0)


def _median_distance(rows: Tensor, name: str) -> float:
    """Over all pairs of different images, up to 5,000 rows at even steps.

    Of an even number of pairs the mean of the middle two, which torch's own median is not.
    """
    some = rows[:: -(-len(rows) // 5000)]
    median = float(np.median(torch.pdist(some).cpu().numpy(), overwrite_input=True))
    if median == 0:
        raise ValueError(f"{name}: the median distance is 0, so the rbf kernel has no width")
    return median
