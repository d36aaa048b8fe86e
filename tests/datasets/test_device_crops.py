import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from alignctl.datasets.device_crops import crops_of, ready_crops

HEIGHT, WIDTH = 11, 14
ALL = slice(None)


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8))


BOXES = np.array(
    [
        [[0, 0, HEIGHT, WIDTH], [2, 3, 4, 5], [10, 13, 1, 1]],
        [[1, 0, 10, 2], [0, 0, 1, WIDTH], [5, 5, 6, 9]],
    ]
)
NONE = np.zeros(6, dtype=bool)


def test_crops_are_those_of_torchvision_view_by_view(images):
    found = crops_of(images, BOXES)(ALL, NONE)
    expected = [
        reference.resized_crop(image.permute(2, 0, 1) / 255, *box, [HEIGHT, WIDTH], antialias=True)
        for boxes in BOXES.tolist()
        for image, box in zip(images, boxes, strict=True)
    ]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-6)


def of_both_kinds(images):
    pixels = torch.stack([images, images.flip(1)], dim=1)
    return {"cut here": crops_of(images, BOXES), "cut elsewhere": ready_crops(pixels)}


@pytest.mark.parametrize("kind", ["cut here", "cut elsewhere"])
def test_rows_and_mirrors_are_those_that_are_asked_for(images, kind):
    crops = of_both_kinds(images)[kind]
    mirrored = np.array([True, False, False, True, True, False])
    whole = crops(ALL, NONE)
    some = crops(slice(1, 5), mirrored[1:5])
    for row, mirror, found in zip(range(1, 5), mirrored[1:5], some, strict=True):
        assert torch.equal(found, whole[row].flip(2) if mirror else whole[row])


@pytest.mark.parametrize("kind", ["cut here", "cut elsewhere"])
def test_pixels_may_be_written_over(images, kind):
    before = images.clone()
    crops = of_both_kinds(images)[kind]
    first = crops(ALL, NONE).clone()
    crops(ALL, NONE).zero_()
    assert torch.equal(crops(ALL, NONE), first)
    assert torch.equal(images, before)


def test_crops_that_were_cut_before_come_view_by_view(images):
    pixels = torch.stack([images, images.flip(1)], dim=1)
    found = ready_crops(pixels)(ALL, NONE)
    planes = images.permute(0, 3, 1, 2) / 255
    assert torch.equal(found, torch.cat([planes, planes.flip(2)]))
