"""Proof that every process trained on the same pixels, at the cost of one sum per batch."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from alignctl.objectives import ViewBatch

_MULTIPLIER = -7046029254386353131  # 2**64 / golden ratio, as a signed odd integer

Fingerprint = tuple[int, int]


def fingerprint(batch: ViewBatch) -> Tensor:
    """A 64-bit checksum of the ids and of every bit of the views: (2,) int64, on the device.

    Sums modulo 2**64 of bits times odd weights: it changes with any single pixel or place, does
    not depend on the order of summation, and waits for no device. Every value is weighted by its
    place in the whole batch, so that the fingerprints of the peers' shares add up to the batch's.
    Further views and random numbers that objectives asked for count as the shared views do.
    """
    bits = _weighted_sum(batch.images.view(torch.int32).flatten(1), batch)
    for name, views in sorted(batch.groups.items()):
        of_group = _weighted_sum(views.view(torch.int32).flatten(1), batch)
        bits = bits + _odd(f"views {name}") * of_group
    for purpose, drawn in sorted(batch.draws.items()):
        bits = bits + _odd(purpose) * _weighted_sum(drawn.view(torch.int32).flatten()[None], batch)
    return torch.stack([_weighted_sum(batch.ids[None], batch), bits])


def add_fingerprints(shares: Iterable[Fingerprint]) -> Fingerprint:
    """The fingerprint of a batch from those of its shares: sums modulo 2**64, signed."""
    ids, pixels = zip(*shares, strict=True)
    return _signed(sum(ids)), _signed(sum(pixels))


def epoch_digest(fingerprints: Iterable[Tensor | Fingerprint]) -> str:
    """SHA-256 over the fingerprints of an epoch's batches, in their order."""
    rows = [torch.as_tensor(each, dtype=torch.int64) for each in fingerprints]
    values = torch.stack(rows).cpu().numpy()
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()


def _weighted_sum(rows: Tensor, batch: ViewBatch) -> Tensor:
    """The sum over rows (V, n) of values times weights by their place among the peers' columns."""
    num_rows, length = rows.shape
    columns = torch.arange(1, 2 * length, 2, device=rows.device)
    starts = torch.arange(num_rows, device=rows.device) * batch.peers.size + batch.peers.rank
    weights = (columns + starts[:, None] * (2 * length)).mul_(_MULTIPLIER)
    return (rows * weights).sum()


def _odd(text: str) -> int:
    """An odd number in the range of int64, another for another text."""
    return _signed(
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") | 1
    )


def _signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63
