import warnings
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional, v2

from alignctl.datasets import decoding
from alignctl.datasets.decoding import (
    crop_and_resize,
    decode_images,
    open_image,
    refuse_unreadable,
)
from alignctl.errors import DataError


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_images_come_in_order_whatever_their_number():
    pixels = [noise(3, 4, seed) for seed in range(600)]
    items = ((f"image {seed}", png(image)) for seed, image in enumerate(pixels))
    assert np.array_equal(decode_images(items, 600, image_size=None), np.stack(pixels))


def test_grey_and_palette_images_become_rgb():
    gray = Image.fromarray(noise(4, 4)[:, :, 0])
    for image in (gray, gray.convert("P"), gray.convert("LA")):
        file = BytesIO()
        image.save(file, "PNG")
        decoded = decode_images([("x", file.getvalue())], 1, image_size=None)
        assert np.array_equal(decoded[0], np.asarray(gray.convert("RGB")))


@pytest.mark.parametrize(("height", "width"), [(50, 31), (31, 50), (20, 33), (16, 40), (9, 7)])
def test_resizing_matches_torchvision(height, width):
    image = Image.fromarray(noise(height, width))
    transform = v2.Compose([v2.Resize(16, antialias=True), v2.CenterCrop(16), v2.PILToTensor()])
    expected = transform(image).permute(1, 2, 0)
    decoded = decode_images([("x", png(np.asarray(image)))], 1, image_size=16)
    assert torch.equal(torch.from_numpy(decoded[0]), expected)


@pytest.mark.parametrize(("height", "width"), [(50, 31), (31, 50), (20, 33), (16, 40), (9, 7)])
@pytest.mark.parametrize(("resize", "size"), [(16, 11), (20, 16), (33, 33)])
def test_resizing_to_more_than_the_centre_matches_torchvision(height, width, resize, size):
    image = Image.fromarray(noise(height, width))
    transform = v2.Compose([v2.Resize(resize), v2.CenterCrop(size), v2.PILToTensor()])
    expected = transform(image).permute(1, 2, 0)
    items = [("x", png(np.asarray(image)))]
    decoded = decode_images(items, 1, image_size=size, resize=resize)
    assert torch.equal(torch.from_numpy(decoded[0]), expected)


@pytest.mark.parametrize("size", [8, 24])
@pytest.mark.parametrize("box", [(0, 0, 50, 31), (7, 3, 20, 11), (49, 30, 1, 1), (0, 5, 50, 4)])
def test_a_resized_crop_matches_torchvision_up_to_its_edges(box, size):
    image = Image.fromarray(noise(50, 31))
    expected = np.asarray(functional.resized_crop(image, *box, [size, size]))
    found = crop_and_resize(image, np.array(box), size)
    assert np.array_equal(np.asarray(found), expected)


def test_an_open_image_is_whole_and_in_rgb():
    gray = noise(13, 22)[:, :, 0]
    image = open_image(("x", png(gray)))
    assert np.array_equal(np.asarray(image), np.stack([gray] * 3, axis=2))


def test_the_first_image_of_another_size_is_named():
    sizes = [(4, 5), (4, 5), (6, 7), (8, 9)]
    items = [(f"image {i}", png(noise(*size))) for i, size in enumerate(sizes)]
    with pytest.raises(DataError, match=r"^image 2: 7x6 where .* 5x4; set dataset.image_size"):
        decode_images(items, 4, image_size=None)
    assert decode_images(items, 4, image_size=4).shape == (4, 4, 4, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"not an image", "no known format"),
        (b"", "no known format"),
        (png(noise(64, 64))[:3000], "truncated"),
    ],
)
@pytest.mark.parametrize("position", [0, 1, 300])
def test_a_damaged_image_is_named(data, reason, position):
    items = [(f"image {i}", png(noise(64, 64))) for i in range(position)] + [("the bad one", data)]
    with pytest.raises(DataError, match=f"^the bad one: not a readable image: .*{reason}") as error:
        decode_images(items, position + 1, image_size=None)
    assert "\n" not in str(error.value)


def test_a_file_that_is_gone_is_named(tmp_path):
    path = tmp_path / "gone.png"
    with pytest.raises(DataError, match=r"gone.png: not a readable image: No such file"):
        decode_images([(str(path), path)], 1, image_size=None)


def test_a_warning_made_an_error_is_not_called_a_damaged_image(monkeypatch):
    """pytest makes errors of warnings, as PYTHONWARNINGS=error does."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow warns above it
    with pytest.raises(DataError) as error:
        decode_images([("large.png", png(noise(4, 4)))], 1, image_size=None)
    message = str(error.value)
    start = "large.png: cannot be read where warnings are errors (PYTHONWARNINGS, -W): Image size"
    assert message.startswith(start)
    assert "not a readable image" not in message
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decode_images([("large.png", png(noise(4, 4)))], 1, image_size=None)


def test_more_than_the_memory_is_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(decoding, "_physical_memory", lambda: 8 * 10**9)
    decoded = iter([("first", png(noise(1000, 1000))), ("never decoded", b"")])
    with pytest.raises(
        DataError, match=r"6000 images of 1000x1000 take 18 GB .* dataset.image_size"
    ):
        decode_images(decoded, 6000, image_size=None)
    with pytest.raises(DataError, match="2000000 images of 64x64 take 25 GB"):
        decode_images([("x", png(noise(2, 2)))], 2_000_000, image_size=64)


def test_the_physical_memory_is_known_here():
    assert decoding._physical_memory() > 2**27


def damaged(count, *, of):
    bad = set(range(0, 3 * count, 3))
    good = png(noise(4, 5))
    return [(f"image {i}", good[:40] if i in bad else good) for i in range(of)]


def test_all_damaged_images_are_listed_at_once():
    with pytest.raises(DataError) as error:
        decode_images(damaged(3, of=600), 600, image_size=None)
    first, *lines = str(error.value).splitlines()
    assert first == "3 of 600 images cannot be read:"
    assert [line.partition(":")[0] for line in lines] == ["image 0", "image 3", "image 6"]
    assert all(": not a readable image: " in line for line in lines)


def test_of_many_damaged_images_ten_are_listed_and_the_others_counted():
    with pytest.raises(DataError) as error:
        decode_images(damaged(1300, of=4000), 4000, image_size=8)
    first, *lines = str(error.value).splitlines()
    assert first == "1,300 of 4,000 images cannot be read:"
    assert (len(lines), lines[-1]) == (11, "and 1,290 more")


def test_the_size_of_images_is_that_of_the_first_readable_one():
    with pytest.raises(DataError, match=r"^image 0: not a readable image"):
        decode_images(damaged(1, of=3), 3, image_size=None)


def test_images_are_looked_through_without_being_kept():
    refuse_unreadable(damaged(0, of=600))
    with pytest.raises(DataError, match=r"^3 of 600 images cannot be read:\nimage 0: "):
        refuse_unreadable(damaged(3, of=600))


def test_what_lies_in_an_images_place_is_recognised(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
    (tmp_path / "1.jpg").write_bytes(pointer)
    for name, data in (("row 1", pointer), ("1.jpg", tmp_path / "1.jpg")):
        with pytest.raises(DataError, match=rf"^{name}: is a pointer of Git LFS .* `git lfs pull`"):
            open_image((name, data))
    with pytest.raises(DataError, match=r"^x: is a web page \(HTML\)"):
        open_image(("x", b"<!doctype html>"))
