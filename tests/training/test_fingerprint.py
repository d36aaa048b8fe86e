import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from alignctl.objectives import ViewBatch
from alignctl.training.fingerprint import add_fingerprints, epoch_digest, fingerprint


@pytest.fixture
def batch():
    images = torch.randn(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return ViewBatch(images, labels=torch.zeros(3, dtype=torch.int64), ids=torch.tensor([4, 0, 9]))


def changed(batch, **parts):
    return ViewBatch(**{"images": batch.images, "labels": batch.labels, "ids": batch.ids, **parts})


def naive_sum(values: np.ndarray) -> int:
    total = sum(
        int(value) * (2 * place + 1) * -7046029254386353131
        for place, value in enumerate(values.ravel())
    )
    return (total + 2**63) % 2**64 - 2**63


def test_it_is_the_weighted_sum_of_all_bits_modulo_two_to_the_64(batch):
    expected = [naive_sum(batch.ids.numpy()), naive_sum(batch.images.numpy().view(np.int32))]
    assert fingerprint(batch).tolist() == expected
    assert fingerprint(batch).dtype == torch.int64


def test_it_changes_with_the_last_bit_of_any_pixel(batch):
    found = {tuple(fingerprint(batch).tolist())}
    flat = batch.images.flatten()
    for place in range(len(flat)):
        images = flat.clone()
        images[place] = torch.nextafter(images[place], torch.tensor(torch.inf))
        found.add(tuple(fingerprint(changed(batch, images=images.view(2, 3, 3, 4, 4))).tolist()))
    assert len(found) == 1 + len(flat)


def test_it_changes_with_ids_and_their_order_and_with_the_order_of_images_and_views(batch):
    others = [
        changed(batch, ids=torch.tensor([4, 0, 8])),
        changed(batch, ids=torch.tensor([0, 4, 9])),
        changed(batch, images=batch.images[:, [1, 0, 2]]),
        changed(batch, images=batch.images.flip(0)),
        changed(batch, images=batch.images.flip(-1)),
        changed(batch, images=-batch.images),
    ]
    found = [tuple(fingerprint(other).tolist()) for other in [batch, *others]]
    assert len(set(found)) == len(found)


def test_it_does_not_depend_on_the_layout_in_memory(batch):
    images = batch.images.transpose(0, 1).contiguous().transpose(0, 1)
    assert images.stride() != batch.images.stride()
    torch.testing.assert_close(fingerprint(changed(batch, images=images)), fingerprint(batch))


def test_the_digest_of_an_epoch_depends_on_the_order_of_its_batches():
    parts = [torch.tensor([1, -2]), torch.tensor([3, 4])]
    expected = hashlib.sha256(np.array([1, -2, 3, 4], dtype="<i8").tobytes()).hexdigest()
    assert epoch_digest(parts) == expected
    assert epoch_digest(parts[::-1]) != expected
    assert epoch_digest([(1, -2), (3, 4)]) == expected


@dataclass(frozen=True)
class Share:
    rank: int
    size: int


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_fingerprints_of_shares_add_up_to_that_of_the_batch(size):
    stream = torch.Generator().manual_seed(0)
    images = torch.randn(2, 8, 3, 4, 4, generator=stream)
    labels, ids = torch.zeros(8, dtype=torch.int64), torch.randint(2**31, (8,), generator=stream)
    whole = tuple(fingerprint(ViewBatch(images, labels, ids)).tolist())
    parts = [
        ViewBatch(part, labels[:0], numbers, Share(rank, size))
        for rank, (part, numbers) in enumerate(
            zip(images.chunk(size, dim=1), ids.chunk(size), strict=True)
        )
    ]
    shares = [tuple(fingerprint(part).tolist()) for part in parts]
    assert add_fingerprints(shares) == whole
    if size > 1:
        swapped = [replace(part, peers=Share(size - 1 - part.peers.rank, size)) for part in parts]
        assert add_fingerprints(tuple(fingerprint(p).tolist()) for p in swapped) != whole


def test_fingerprints_add_up_modulo_two_to_the_64():
    assert add_fingerprints([(2**63 - 1, -(2**63)), (1, -1), (0, 5)]) == (
        -(2**63),
        2**63 - 1 + 5 - 2**64,
    )
