"""Spaces of features, read by rows, and the rows that each process reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from alignctl.processes import Processes, share_of
from alignctl.randomness import uniforms

# Rows in memory at a time, of every space, and of one float32 product.
CHUNK = 8192


class Features(Protocol):
    """A matrix of features (num_rows, num_columns) that gives some of its rows at a time."""

    @property
    def num_rows(self) -> int:
        """Images."""

    @property
    def num_columns(self) -> int:
        """Features of an image."""

    def rows(self, part: slice) -> Tensor:
        """These rows, floating point, on the CPU."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """Features that are a tensor."""

    tensor: Tensor

    @property
    def num_rows(self) -> int:
        """Images."""
        return len(self.tensor)

    @property
    def num_columns(self) -> int:
        """Features of an image."""
        return self.tensor.shape[1]

    def rows(self, part: slice) -> Tensor:
        """These rows."""
        return self.tensor[part]


def share_in_chunks(num_rows: int, processes: Processes) -> Iterator[slice]:
    """This process's rows in chunks; one empty chunk where it has none."""
    share = share_of(num_rows, processes)
    for start in range(share.start, max(share.stop, share.start + 1), CHUNK):
        yield slice(start, min(start + CHUNK, share.stop))


def chunks_of(
    spaces: Sequence[Features], processes: Processes, device: torch.device
) -> Iterator[list[Tensor]]:
    """This process's rows of all spaces, chunk by chunk."""
    for part in share_in_chunks(spaces[0].num_rows, processes):
        yield [space.rows(part).to(device, non_blocking=True) for space in spaces]


def whole(space: Features, images: Tensor | None = None) -> Tensor:
    """All rows, or those of some images in ascending order, on the CPU."""
    parts = []
    for start in range(0, space.num_rows, CHUNK):
        rows = space.rows(slice(start, start + CHUNK))
        if images is not None:
            rows = rows[images[(images >= start) & (images < start + CHUNK)] - start]
        parts.append(rows)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def sample(num_images: int, size: int, *, seed: int) -> Tensor:
    """`size` different images of so many, in ascending order: (size,) int64."""
    ids = np.arange(num_images)
    draws = uniforms(seed, "images", epoch=0, samples=ids, view=0, num_draws=1)
    return torch.from_numpy(np.sort(np.argsort(draws[:, 0], kind="stable")[:size]))
