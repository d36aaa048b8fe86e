"""From whatever an image file holds to 8 bits of red, green and blue, and what is lost on the way.

Whole numbers of more than 8 bits are scaled from the range that the format states. Where it states
none, no brightness is right, and the image is refused.
"""

import re
import struct
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_TIFF_BITS_PER_SAMPLE, _TIFF_PHOTOMETRIC, _EXIF_ORIENTATION = 258, 262, 274
_WHITE_IS_ZERO = 0
_BYTE, _FULL_RANGE = 2**8 - 1, 2**16 - 1
_DARK = 64  # where no value of 16 bits has more than 14
_WIDE = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_CHANNELS_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_FORMATS_OF_FULL_RANGE = ("PNG", "PPM")  # of a mode that other formats use for 32 bits


class Loss(Enum):
    """What an image may have that its 8 bits of red, green and blue do not show."""

    MORE_BITS = "with more than 8 bits per channel, scaled to 8"
    TRANSPARENCY = "with transparent parts, shown without transparency"
    FRAMES = "with several frames or pages, of which the first is used"
    ROTATION = "with an EXIF rotation, which is not applied"
    CMYK = "in CMYK, converted without a colour profile"


class UnknownRangeError(ValueError):
    """Pixels of which nothing says which value is white."""


class Losses:
    """What images have lost so far; several threads may add to it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: dict[Loss, tuple[int, str]] = {}
        self._brightest: int | None = None

    def add(self, name: str, found: Iterable[Loss], scaled: Image.Image | None = None) -> None:
        """Count an image; the example of a loss is the first name in alphabetical order.

        scaled: what became of it, where that is known and it had more than 8 bits.
        """
        brightest = 0 if scaled is None else int(np.asarray(scaled).max())
        with self._lock:
            if scaled is not None:
                self._brightest = max(self._brightest or 0, brightest)
            for loss in found:
                count, example = self._found.get(loss, (0, name))
                self._found[loss] = count + 1, min(example, name)

    def notice(self, images: str) -> str | None:
        """One line with counts and examples; None where nothing is lost. images: what they are."""
        if not self._found:
            return None
        kinds = [loss for loss in Loss if loss in self._found]
        parts = [f"{self._found[k][0]:,} {k.value} ({self._found[k][1]})" for k in kinds]
        if self._brightest is not None and self._brightest < _DARK:
            parts[0] += (
                f", with no value above {self._brightest} of 255 then: where they use fewer bits "
                "than the files have, scale them before"
            )
        return f"among {images}: {'; '.join(parts)}"


def losses_of(image: Image.Image) -> set[Loss]:
    """What `to_rgb` will lose of an image that was opened and not loaded yet.

    Loads it only to see whether an alpha channel has transparent parts.
    """
    found = set()
    if _has_more_bits(image):
        found.add(Loss.MORE_BITS)
    if _has_frames(image):
        found.add(Loss.FRAMES)
    if image.mode == "CMYK":
        found.add(Loss.CMYK)
    if _is_to_be_rotated(image):
        found.add(Loss.ROTATION)
    if _is_transparent(image):  # the last: what it loads is not as it was opened
        found.add(Loss.TRANSPARENCY)
    return found


def largest_value(image: Image.Image) -> int:
    """The value that stands for white, or black where white is zero, as the header says.

    Raises UnknownRangeError where it does not say so.
    """
    if image.mode == "F":
        raise UnknownRangeError(_refusal("32-bit floating-point numbers"))
    if image.mode == "I" and image.format not in _FORMATS_OF_FULL_RANGE:
        raise UnknownRangeError(_refusal("32-bit or signed whole numbers"))
    if image.mode not in _WIDE:
        return _BYTE
    bits = _tiff_tag(image, _TIFF_BITS_PER_SAMPLE)
    return _FULL_RANGE if bits is None else int(2 ** bits[0] - 1)


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB; UnknownRangeError where its file does not say which value is white.

    Whole numbers v of more than 8 bits become 255 v / range, rounded; of RGB with 16 bits per
    channel Pillow itself gives the upper 8. Transparent parts show the colours beneath.
    """
    if largest_value(image) != _BYTE:
        return Image.fromarray(_scaled(image)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # without this step Pillow warns
    return image.convert("RGB")


def _scaled(image: Image.Image) -> NDArray[np.uint8]:
    """Whole numbers (H, W) brought from their range to [0, 255]."""
    largest = largest_value(image)
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > largest:
        raise UnknownRangeError(_refusal(f"numbers outside of 0 to {largest:,}"))
    scaled = (values * 255 + largest // 2) // largest
    if _tiff_tag(image, _TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts 8 bits only
        scaled = 255 - scaled
    return scaled.astype(np.uint8)


def _tiff_tag(image: Image.Image, tag: int) -> Any:
    return getattr(image, "tag_v2", {}).get(tag) if image.format == "TIFF" else None


def _refusal(pixels: str) -> str:
    return (
        f"its pixels are {pixels}, and nothing in the file says which value is white; "
        "save it with 8 bits per channel, or as whole numbers of 16 bits from 0 to 65,535"
    )


def _has_more_bits(image: Image.Image) -> bool:
    """Whether the file has more than 8 bits per channel, which Pillow cuts to 8 in some modes."""
    if image.mode in _WIDE:
        return True
    tiles = getattr(image, "tile", [])
    if any(tile[0] == "SGI16" for tile in tiles):
        return True
    layouts: list[Any] = [tile[3] for tile in tiles]  # of bytes, by decoder
    if image.format == "PPM":  # ("RGB", the largest value)
        return any(each[-1] > _BYTE for each in layouts if isinstance(each, tuple))
    return any(re.search(r";16[BLN]", str(each)) for each in layouts)


def _has_frames(image: Image.Image) -> bool:
    with suppress(Exception):  # behind a whole first frame anything may be damaged
        return bool(getattr(image, "is_animated", False))
    return False


def _is_to_be_rotated(image: Image.Image) -> bool:
    if image.format == "TIFF":  # whose tag Pillow itself obeys
        return False
    return _exif_orientation(image.info.get("exif", b"")) in range(2, 9)


def _exif_orientation(exif: bytes) -> int | None:
    """The orientation in EXIF data; None where there is none, or they are damaged.

    Pillow's own reader warns of damage, once for every image.
    """
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return None
    with suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (num_entries,) = struct.unpack_from(f"{order}H", data, start)
        for place in range(start + 2, start + 2 + 12 * num_entries, 12):
            tag, value = struct.unpack_from(f"{order}H6xH", data, place)
            if tag == _EXIF_ORIENTATION:
                return int(value)
    return None


def _is_transparent(image: Image.Image) -> bool:
    if image.mode in _WIDE:
        return "transparency" in image.info
    if image.mode not in _CHANNELS_WITH_ALPHA and "transparency" not in image.info:
        return False
    alpha = image if image.mode == "RGBA" else image.convert("RGBA")
    return bool(np.asarray(alpha.getchannel("A")).min() < _BYTE)
