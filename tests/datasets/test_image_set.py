"""What every set of images gives, whether its images are in memory or decoded when asked for."""

import numpy as np
import pytest
import torch

from alignctl.datasets import load_images, open_images

CPU = torch.device("cpu")
WORKERS = [("true", 0), ("false", 0), ("false", 2)]


@pytest.fixture(params=WORKERS, ids=["in memory", "streamed here", "streamed by others"])
def config(request, streamed_study):
    in_memory, workers = request.param
    return streamed_study(f"dataset.in_memory={in_memory}", f"dataset.workers={workers}").dataset


@pytest.fixture
def images(config):
    return open_images(config, "train")


@pytest.fixture
def batches(images):
    """Batches of ids in no order, one of them empty."""
    ids = np.random.default_rng(0).permutation(images.ids)
    return [ids[:7], ids[:0], ids[7:20], ids[3:9]]


def test_centres_are_those_of_the_ids_that_are_asked_for(config, images, batches):
    expected = load_images(config, "train")
    found = list(images.centres(batches, device=CPU))
    assert len(found) == len(batches)
    for pixels, ids in zip(found, batches, strict=True):
        assert pixels.dtype == torch.uint8
        np.testing.assert_array_equal(pixels, expected.images[np.searchsorted(expected.ids, ids)])


def corner_of(ids):
    """Two views: the top left quarter, and the left half."""

    def boxes(rows, height, width):
        both = [[0, 0, height // 2, width // 2], [0, 0, height, width // 2]]
        return np.repeat(np.array(both)[:, None], len(ids[rows]), axis=1)

    return boxes


def test_crops_are_taken_batch_by_batch_and_view_by_view(images, batches):
    def take(ids, crops):
        return ids, crops(slice(None), np.zeros(2 * len(ids), dtype=bool))

    training = images.for_training(CPU)
    found = list(training.crops(batches, corner_of, take=take))
    alone = {}
    for (ids, pixels), asked in zip(found, batches, strict=True):
        np.testing.assert_array_equal(ids, asked)
        assert pixels.shape == (2 * len(ids), 3, *images.image_shape)
        for index, views in zip(ids, zip(*pixels.chunk(2), strict=True), strict=True):
            for view, crop in enumerate(views):
                assert torch.equal(alone.setdefault((index, view), crop), crop)
    assert not torch.equal(alone[batches[0][0], 0], alone[batches[0][0], 1])
    assert not torch.equal(alone[batches[0][0], 0], alone[batches[0][1], 0])


def test_a_set_says_whether_its_digest_is_of_pixels(config, images):
    assert images.digest_covers_pixels == config.in_memory
    assert images.digest == open_images(config, "train").digest
    assert images.digest != open_images(config, "test").digest
