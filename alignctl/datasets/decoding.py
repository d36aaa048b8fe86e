"""From image files to one array of pixels."""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from alignctl.datasets.conversion import (
    Loss,
    Losses,
    UnknownRangeError,
    largest_value,
    losses_of,
    to_rgb,
)
from alignctl.errors import DataError
from alignctl.stand_ins import stand_in

T = TypeVar("T")
EncodedImage = tuple[str, Path | bytes]
"""What to call an image in an error, and its file or the bytes of it."""

_NUM_THREADS = min(8, os.cpu_count() or 1)
_IMAGES_AT_A_TIME = 256  # bounds the encoded images held in memory
_IMAGES_PER_TASK = 16  # handing small images over one by one takes as long as decoding them
_NUM_LISTED = 10  # of several unreadable images, so many are named
_MEMORY_NEVER_REFUSED = 16 * 10**9


def decode_images(
    encoded: Iterable[EncodedImage],
    num_images: int,
    *,
    image_size: int | None,
    resize: int | None = None,
    losses: Losses | None = None,
) -> NDArray[np.uint8]:
    """The pixels of all images in RGB: (num_images, H, W, 3) uint8.

    image_size: the shorter side is resized to `resize`, or to it (bilinear with antialiasing), and
    the centre cropped; without it all images must have the same size.
    losses: is told what the images lose.
    Raises DataError for damaged images and for those whose files do not say which value is white,
    naming all at once, for differing sizes, and for more than the memory holds.
    """
    if not num_images:
        return np.empty((0, 0, 0, 3), dtype=np.uint8)
    pixels = None if image_size is None else _allocate(num_images, (image_size, image_size))
    unreadable = []

    def decode(item: EncodedImage) -> NDArray[np.uint8]:
        return _decode(item, image_size, resize, losses)

    with closing(_each(encoded, decode)) as decoded:
        for position, (name, image) in enumerate(decoded):
            if isinstance(image, DataError):
                unreadable.append(str(image))
                continue
            if pixels is None:
                pixels = _allocate(num_images, image.shape[:2])
            if image.shape != pixels.shape[1:]:
                raise DataError(_differing_sizes(name, image, pixels))
            pixels[position] = image
    _refuse(unreadable, num_images)
    assert pixels is not None and position + 1 == num_images
    return pixels


def refuse_unreadable(encoded: Iterable[EncodedImage]) -> None:
    """Decode all images and keep none; DataError that lists those that cannot be read."""

    def check(item: EncodedImage) -> None:
        open_image(item)

    results = [result for _, result in _each(encoded, check)]
    _refuse([str(error) for error in results if error is not None], len(results))


def _refuse(unreadable: Sequence[str], num_images: int) -> None:
    """DataError for images that cannot be read, all in one, so that they are mended in one go."""
    if len(unreadable) == 1:
        raise DataError(unreadable[0])
    if unreadable:
        more = len(unreadable) - _NUM_LISTED
        lines = [*unreadable[:_NUM_LISTED], *([f"and {more:,} more"] if more > 0 else [])]
        raise DataError(
            "\n".join([f"{len(unreadable):,} of {num_images:,} images cannot be read:", *lines])
        )


def _each(
    encoded: Iterable[EncodedImage], work: Callable[[EncodedImage], T]
) -> Generator[tuple[str, T | DataError], None, None]:
    """The name of each image and what comes of the work on it, in order; an error as a value."""

    def attempt(item: EncodedImage) -> T | DataError:
        try:
            return work(item)
        except DataError as error:
            return error

    remaining = iter(encoded)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        while chunk := list(islice(remaining, _IMAGES_AT_A_TIME)):
            tasks = [
                chunk[i : i + _IMAGES_PER_TASK] for i in range(0, len(chunk), _IMAGES_PER_TASK)
            ]
            done = pool.map(lambda task: [attempt(item) for item in task], tasks)
            names = (name for name, _ in chunk)
            yield from zip(names, chain.from_iterable(done), strict=True)


def open_image(item: EncodedImage, losses: Losses | None = None) -> Image.Image:
    """The whole image in RGB; DataError with its name where it cannot be read.

    losses: is told what the image loses.
    """
    name, data = item
    try:
        with _opened(data) as image:
            lost = losses_of(image) if losses is not None else set()
            converted = to_rgb(image)
    except UnknownRangeError as error:
        raise DataError(f"{name}: {error}") from error
    except Warning as error:
        raise DataError(
            f"{name}: cannot be read where warnings are errors (PYTHONWARNINGS, -W): "
            f"{_reason(error)}"
        ) from error
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
        reason = stand_in(data) or f"not a readable image: {_reason(error)}"
        raise DataError(f"{name}: {reason}") from error
    if losses is not None:
        losses.add(name, lost, converted if Loss.MORE_BITS in lost else None)
    return converted


def losses_in_headers(encoded: Iterable[EncodedImage]) -> Losses:
    """What these images will lose once they are decoded.

    Damaged ones are passed over; DataError for one whose file does not say which value is white.
    """
    losses = Losses()

    def look(item: EncodedImage) -> None:
        name, data = item
        try:
            with _opened(data) as image:
                largest_value(image)
                losses.add(name, losses_of(image))
        except UnknownRangeError as error:
            raise DataError(f"{name}: {error}") from error
        except Exception:  # whoever decodes it says why
            return

    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        for _ in pool.map(look, encoded):
            pass
    return losses


def _opened(data: Path | bytes) -> Image.Image:
    return Image.open(BytesIO(data) if isinstance(data, bytes) else data)


def resize_and_crop(image: Image.Image, size: int, resize: int | None = None) -> Image.Image:
    """The centre, (size, size), of the image at the resolution where its shorter side is `resize`.

    Without `resize` that is `size` itself. Rounds as torchvision's Resize and CenterCrop do.
    """
    width, height = image.size
    shorter, target = min(width, height), resize or size
    if shorter != target:
        width, height = int(target * width / shorter), int(target * height / shorter)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def crop_and_resize(image: Image.Image, box: NDArray[np.int64], size: int) -> Image.Image:
    """A part of the image at (size, size), with antialiasing, as torchvision's resized_crop.

    box: top, left, height and width in pixels.
    """
    top, left, height, width = (int(value) for value in box)
    # Image.resize takes a box as well, and then looks beyond its edges
    part = image.crop((left, top, left + width, top + height))
    return part.resize((size, size), Image.Resampling.BILINEAR)


def _decode(
    item: EncodedImage,
    image_size: int | None,
    resize: int | None = None,
    losses: Losses | None = None,
) -> NDArray[np.uint8]:
    image = open_image(item, losses)
    return np.asarray(image if image_size is None else resize_and_crop(image, image_size, resize))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # names the object in memory, not the file
        return "no known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]


def _allocate(num_images: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = shape
    num_bytes = num_images * height * width * 3
    if num_bytes > max(_MEMORY_NEVER_REFUSED, _physical_memory()):
        raise DataError(
            f"dataset: {num_images} images of {width}x{height} take {num_bytes / 1e9:.0f} GB of "
            "memory; choose a smaller dataset.image_size, or fewer dataset.classes or "
            "dataset.images_per_class"
        )
    return np.empty((num_images, height, width, 3), dtype=np.uint8)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this system
        return 0


def _differing_sizes(name: str, image: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> str:
    (height, width), (first_height, first_width) = image.shape[:2], pixels.shape[1:3]
    return (
        f"{name}: {width}x{height} where the first image has {first_width}x{first_height}; "
        "set dataset.image_size to bring all to one size"
    )
