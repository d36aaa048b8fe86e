import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, features

from alignctl.datasets.conversion import Loss, Losses, losses_of, to_rgb
from alignctl.datasets.decoding import decode_images, open_image
from alignctl.errors import DataError

RAMP = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
EIGHT_BITS = np.arange(256, dtype=np.uint8).reshape(16, 16)  # the same ramp
COLOURS = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)


def file_of(image, kind="PNG", **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(depth, colour_type, samples, *chunks):
    """A PNG file of one row; Pillow writes no colours of 16 bits."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(
            ">I", zlib.crc32(kind + data)
        )  # fmt: skip

    row = b"\0" + np.asarray(samples, ">u2" if depth == 16 else ">u1").tobytes()
    header = struct.pack(">IIBBBBB", len(samples), 1, depth, colour_type, 0, 0, 0)
    parts = (b"IHDR", header), *chunks, (b"IDAT", zlib.compress(row)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(data, *, width, bits, sample_format=1, photometric=1, samples=1):
    """A TIFF file of one row, little-endian."""
    values = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: samples,
              278: 1, 279: len(data), 339: sample_format}  # fmt: skip
    data += b"\0" * (len(data) % 2)
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, v, 0) for tag, v in values.items())
    start = 8 + len(data)
    return struct.pack("<2sHI", b"II", 42, start) + data + struct.pack(
        "<H", len(values)) + entries + bytes(4)  # fmt: skip


def gray(data):
    """The image as decoded for a study, whose channels must all be alike; and what it lost."""
    losses = Losses()
    (pixels,) = decode_images([("x", data)], 1, image_size=None, losses=losses)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0], losses.notice("1 image")


SCALED = "among 1 image: 1 with more than 8 bits per channel, scaled to 8 (x)"
WIDE = {
    "png": file_of(Image.fromarray(RAMP)),
    "tiff": file_of(Image.fromarray(RAMP), "TIFF"),
    "tiff, compressed": file_of(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"),
    "tiff, big-endian": file_of(
        Image.frombytes("I;16B", (16, 16), RAMP.astype(">u2").tobytes()), "TIFF"
    ),
    "pgm": file_of(Image.fromarray(RAMP), "PPM"),
    "pgm, 10 bits": b"P5 16 16 1023\n" + np.rint(RAMP / 65535 * 1023).astype(">u2").tobytes(),
    "pgm, plain": b"P2 16 16 65535\n" + " ".join(map(str, RAMP.ravel())).encode() + b"\n",
}
if features.check("jpg_2000"):
    WIDE["jpeg 2000"] = file_of(Image.fromarray(RAMP), "JPEG2000")


@pytest.mark.parametrize("name", WIDE)
def test_grey_of_more_than_8_bits_is_scaled_from_the_range_that_the_format_states(name):
    pixels, notice = gray(WIDE[name])
    np.testing.assert_array_equal(pixels, EIGHT_BITS)
    assert notice == SCALED


def test_12_bits_are_scaled_from_the_range_of_12_bits():
    pixels, notice = gray(tiff(bytes([0xFF, 0xF8, 0x00]), width=2, bits=12))  # 4095, 2048
    assert pixels.tolist() == [[255, 128]]
    assert notice == SCALED


@pytest.mark.parametrize(("largest", "told"), [(4095, 16), (1023, 4), (16383, None)])
def test_16_bits_of_which_few_are_used_stay_dark_and_that_is_told(largest, told):
    dark = np.linspace(0, largest, 256).astype(np.uint16).reshape(16, 16)
    pixels, notice = gray(file_of(Image.fromarray(dark)))
    assert pixels.max() == round(largest / 257)
    hint = (
        f", with no value above {told} of 255 then: where they use fewer bits than the files "
        "have, scale them before"
    )
    assert notice == SCALED + (hint if told else "")


def test_white_is_zero_where_a_tiff_says_so():
    data = np.array([0, 257, 65535], "<u2").tobytes()
    pixels, _ = gray(tiff(data, width=3, bits=16, photometric=0))
    assert pixels.tolist() == [[255, 254, 0]]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(16, 2, [[0, 257 * 100, 65535]]), [0, 100, 255]),
        (png(16, 6, [[0, 257 * 100, 65535, 65535]]), [0, 100, 255]),
        (png(16, 4, [[257 * 100, 65535]]), [100, 100, 100]),
        (b"P6 1 1 65535\n" + np.array([0, 257 * 100, 65535], ">u2").tobytes(), [0, 100, 255]),
        (b"P6 1 1 1023\n" + np.array([0, 512, 1023], ">u2").tobytes(), [0, 128, 255]),
    ],
)
def test_colours_of_more_than_8_bits_keep_their_brightness_and_are_told(data, expected):
    losses = Losses()
    assert list(open_image(("x", data), losses).getpixel((0, 0))) == expected
    assert losses.notice("1 image") == SCALED


REFUSED = {
    "float tiff": (
        file_of(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), "32-bit floating-point numbers"
    ),
    "float tiff in [0, 1]": (
        file_of(Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF"),
        "32-bit floating-point numbers",
    ),
    "pfm": (
        file_of(Image.fromarray(RAMP.astype(np.float32)), "PPM"), "32-bit floating-point numbers"
    ),
    "int32 tiff": (
        file_of(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), "32-bit or signed whole numbers"
    ),
    "int16 tiff": (
        tiff(np.array([-5, 9], "<i2").tobytes(), width=2, bits=16, sample_format=2),
        "32-bit or signed whole numbers",
    ),
    "uint32 tiff": (
        tiff(np.array([5, 9], "<u4").tobytes(), width=2, bits=32), "32-bit or signed whole numbers"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_pixels_without_a_stated_range_are_refused(name):
    data, pixels = REFUSED[name]
    with pytest.raises(DataError) as error:
        decode_images([("the file", data)], 1, image_size=4)
    assert str(error.value) == (
        f"the file: its pixels are {pixels}, and nothing in the file says which value is white; "
        "save it with 8 bits per channel, or as whole numbers of 16 bits from 0 to 65,535"
    )


def test_what_8_bits_show_is_not_told():
    image = Image.fromarray(COLOURS)
    files = [file_of(image.convert(mode)) for mode in ("1", "L", "P", "RGB", "RGBA", "LA")]
    files += [file_of(image, kind) for kind in ("BMP", "GIF", "JPEG", "PPM", "TGA", "WEBP")]
    files += [png(2, 0, [[27 * 4]]), b"P5 2 1 15\n\x07\x0f", tiff(b"\0\xff", width=2, bits=8)]
    for data in files:
        assert losses_of(Image.open(BytesIO(data))) == set()


@pytest.mark.parametrize("mode", ["HSV", "LAB", "YCbCr"])
def test_other_colours_than_rgb_become_rgb(mode):
    """To within a few levels: these modes have 8 bits as well, and others than RGB's."""
    image = Image.new("RGB", (2, 2), (100, 120, 140)).convert(mode)
    assert np.abs(np.subtract(to_rgb(image).getpixel((0, 0)), (100, 120, 140))).max() <= 5


def test_only_transparency_that_can_be_seen_is_told_and_hidden_colours_show():
    palette = Image.fromarray(COLOURS).quantize(16)
    half = Image.fromarray(COLOURS)
    half.putalpha(128)
    grey = Image.new("L", (2, 2), 7)
    transparent = {
        "RGBA": (file_of(half), COLOURS),
        "LA": (file_of(half.convert("LA")), half.convert("L").convert("RGB")),
        "one colour of a palette": (file_of(palette, transparency=3), palette.convert("RGB")),
        "a palette": (file_of(palette, transparency=bytes(16)), palette.convert("RGB")),
        "one grey": (file_of(grey, transparency=7), grey.convert("RGB")),
        "one colour": (
            file_of(Image.new("RGB", (1, 1), (1, 2, 3)), transparency=(1, 2, 3)), [[[1, 2, 3]]]
        ),
    }  # fmt: skip
    for name, (data, expected) in transparent.items():
        losses = Losses()
        found = open_image((name, data), losses)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
        assert losses.notice("1 image") == (
            f"among 1 image: 1 with transparent parts, shown without transparency ({name})"
        )
    for opaque in (bytes([255] * 16), 200):  # the second is a colour that no pixel has
        data = file_of(palette, transparency=opaque)
        assert losses_of(Image.open(BytesIO(data))) == set()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP", "MPO"])
def test_of_several_frames_the_first_is_used_and_that_is_told(kind):
    first, second = Image.new("RGB", (4, 4), (200, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 200))
    data = file_of(first, kind, save_all=True, append_images=[second])
    losses = Losses()
    red, _, blue = open_image(("x", data), losses).getpixel((0, 0))
    assert red > 190
    assert blue < 10
    assert losses.notice("1 image") == (
        "among 1 image: 1 with several frames or pages, of which the first is used (x)"
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_a_rotation_is_told_and_not_applied(kind, orientation):
    exif = Image.Exif()
    exif[271], exif[274], exif[305] = "maker", orientation, "software"
    losses = Losses()
    data = file_of(Image.new("RGB", (4, 2)), kind, exif=exif)
    assert open_image(("x", data), losses).size == (4, 2)
    told = "among 1 image: 1 with an EXIF rotation, which is not applied (x)"
    assert losses.notice("1 image") == (None if orientation == 1 else told)


def test_damaged_exif_data_say_nothing():
    exif = Image.Exif()
    exif[274] = 6
    whole = exif.tobytes()
    for damaged in (
        whole[:20],
        whole[:9],
        whole[:6],
        b"",
        b"Exif\0\0II",
        b"Exif\0\0MM\xff\xff\xff",
    ):
        image = Image.new("RGB", (4, 2))
        image.info["exif"] = damaged
        assert losses_of(image) == set()


def test_a_file_that_is_damaged_behind_its_first_frame_is_still_an_image():
    frames = [Image.fromarray(COLOURS), Image.fromarray(255 - COLOURS)]
    data = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    first = np.asarray(open_image(("x", data)))
    for length in range(len(data) - 120, len(data) - 1, 7):
        np.testing.assert_array_equal(open_image(("x", data[:length]), Losses()), first)


def test_cmyk_is_told():
    losses = Losses()
    open_image(("x", file_of(Image.new("CMYK", (4, 4)), "JPEG")), losses)
    assert losses.notice("1 image") == (
        "among 1 image: 1 in CMYK, converted without a colour profile (x)"
    )


def test_all_losses_are_one_line_with_counts_and_the_first_name():
    losses = Losses()
    assert losses.notice("9 images") is None
    losses.add("c", {Loss.FRAMES})
    losses.add("a", {Loss.FRAMES, Loss.MORE_BITS})
    losses.add("b", set())
    assert losses.notice("9 images") == (
        "among 9 images: 1 with more than 8 bits per channel, scaled to 8 (a); "
        "2 with several frames or pages, of which the first is used (a)"
    )


def test_colours_of_16_bits_in_an_sgi_file_are_told():
    losses = Losses()
    open_image(("a.sgi", file_of(Image.fromarray(COLOURS), "SGI", bpc=2)), losses)
    assert losses.notice("1 image") == (
        "among 1 image: 1 with more than 8 bits per channel, scaled to 8 (a.sgi)"
    )
