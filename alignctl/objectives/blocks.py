"""Functions of each row against all, by blocks of rows, so that memory stays that of one block."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# In float32 32 to 36 MB: what is smaller than 32 MB, glibc takes from a heap that then fragments.
BLOCK_ELEMENTS = 9 * 2**20
"""The most elements of a block's matrix; a single row may be longer."""


def in_row_blocks(function: Callable[..., Tensor], rows: Sequence[Tensor], *, width: int) -> Tensor:
    """`function(*rows)`, (n, ...), with only a block of its n rows worked on at a time.

    rows: tensors of n rows each; the function treats every row by itself, without randomness, and
    forms matrices with a row for each and `width` columns. Blocks follow from the shapes alone.
    Backward computes a block again instead of keeping its matrices.
    """
    size = max(1, BLOCK_ELEMENTS // width)
    *earlier, last = zip(*(torch.split(tensor, size) for tensor in rows), strict=True)
    results = [
        checkpoint(function, *block, use_reentrant=False, preserve_rng_state=False)
        for block in earlier
    ]
    # Backward starts with the last block, so that one is kept: it costs no memory at the peak.
    return torch.cat([*results, function(*last)])
