import pytest
import torch

from alignctl.analysis import features as module
from alignctl.analysis.features import chunks, features
from alignctl.augmentations import normalise
from alignctl.encoders import build_network


@pytest.fixture
def networks(small_study):
    return [build_network(small_study(f"seed={seed}")).eval() for seed in (0, 1)]


@pytest.fixture
def images():
    stream = torch.Generator().manual_seed(0)
    return torch.randint(256, (11, 8, 8, 3), generator=stream, dtype=torch.uint8)


@pytest.mark.parametrize("representation", ["h", "g"])
def test_features_are_what_each_network_makes_of_the_plain_images(
    networks, images, small_study, monkeypatch, representation
):
    monkeypatch.setattr(module, "_IMAGES_PER_PASS", 4)  # so that the last pass is smaller
    augmentation = small_study().augmentation
    found = features(networks, images, representation, augmentation)
    for network, matrix in zip(networks, found, strict=True):
        with torch.no_grad():
            one_by_one = [
                getattr(network(normalise(image[None], augmentation)), representation)
                for image in images
            ]
        assert matrix.dtype == torch.float32
        torch.testing.assert_close(matrix, torch.cat(one_by_one), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(*found)


@pytest.mark.parametrize("num_images", [0, 1, 5, 64, 1000])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_the_shares_of_all_processes_are_every_image_once(num_images, world_size):
    shares = [
        list(chunks(num_images, rank=rank, world_size=world_size, size=16))
        for rank in range(world_size)
    ]
    seen = [index for share in shares for part in share for index in range(num_images)[part]]
    assert seen == list(range(num_images))
    sizes = [sum(part.stop - part.start for part in share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert all(part.stop - part.start <= 16 for share in shares for part in share)


def test_a_process_without_images_still_has_features_to_add(networks, images, small_study):
    shares = [list(chunks(2, rank=rank, world_size=4, size=16)) for rank in range(4)]
    assert [len(share) for share in shares] == [1, 1, 1, 1]
    nothing = next(share[0] for share in shares if share[0].start == share[0].stop)
    found = features(networks, images[:2][nothing], "h", small_study().augmentation)
    assert [matrix.shape for matrix in found] == [(0, 32), (0, 32)]
