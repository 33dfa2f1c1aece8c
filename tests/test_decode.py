"""Decoding: every image comes out upright, RGB, 8 bits; whatever is wrong becomes a BadImage, nothing else."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

import data.sources.decode
from data.errors import BadImage
from data.sources.decode import MAX_PIXELS, MAX_SCANS, MAX_SIDE, ORIENTATION, decode, limit_pillow, read_file, read_size
from tests.support.files import decoded_or_refused, encoded

PICTURE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)  # h w 3

# How an upright image is stored, so that a viewer who obeys the tag sees it upright.
STORED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}


@pytest.fixture(autouse=True)
def as_in_programs(monkeypatch):
    """Pillow's own limit is that of this module."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    limit_pillow()


@pytest.mark.parametrize("kind", [*LOSSLESS, "JPEG2000", "TGA", "BMP", "PPM"])
def test_pixels_survive_a_lossless_format(kind):
    data = encoded(PICTURE, kind, **LOSSLESS.get(kind, {}))
    assert read_size(data) == (4, 6)
    np.testing.assert_array_equal(decode(data), PICTURE)


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "AVIF"])
def test_size_survives_a_lossy_format(kind):
    assert decoded_or_refused(encoded(PICTURE, kind)).shape == (4, 6, 3)


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("orientation", STORED)
def test_what_exif_turned_stands_upright(kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(STORED[orientation](PICTURE), kind, exif=exif, **LOSSLESS[kind])
    assert read_size(data) == (4, 6)
    np.testing.assert_array_equal(decode(data), PICTURE)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    np.testing.assert_array_equal(decode(encoded(PICTURE, exif=exif)), PICTURE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind):
    values = np.array([[0, 255, 256, 40_000, 65_535]], np.uint16)
    np.testing.assert_array_equal(decode(encoded(values, kind))[0, :, 1], [0, 0, 1, 156, 255])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_white(mode):
    image = Image.new(mode, (3, 1), (0,) * len(mode))
    image.putalpha(Image.fromarray(np.array([[0, 128, 255]], np.uint8)))
    np.testing.assert_array_equal(decode(encoded(image))[0], [[255] * 3, [127] * 3, [0] * 3])


@pytest.mark.parametrize("mode, key", [("RGB", (9, 9, 9)), ("L", 9), ("P", 9)])
def test_a_transparent_color_is_white(mode, key):
    image = Image.new(mode, (2, 1), key)
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    image.putpixel((1, 0), (1, 2, 3) if mode == "RGB" else 7)
    opaque = np.asarray(image.convert("RGB"))[0, 1]
    np.testing.assert_array_equal(decode(encoded(image, transparency=key))[0], [[255] * 3, opaque])


def test_a_palette_gives_its_colors():
    image = Image.fromarray(PICTURE).quantize(24)
    np.testing.assert_array_equal(decode(encoded(image)), PICTURE)


def test_cmyk_is_ink_on_white():
    ink = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [255, 0, 0, 0]]], np.uint8)
    data = encoded(Image.frombytes("CMYK", (3, 1), ink.tobytes()), "TIFF")
    np.testing.assert_array_equal(decode(data)[0], [[255] * 3, [0] * 3, [0, 255, 255]])


def test_grey_is_three_equal_channels():
    grey = PICTURE[..., 0]
    np.testing.assert_array_equal(decode(encoded(grey)), np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(decode(encoded(grey > 99)), np.stack([255 * (grey > 99)] * 3, -1))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_thin_images_are_images(size):
    image = np.full((*size, 3), 7, np.uint8)
    np.testing.assert_array_equal(decode(encoded(image)), image)


def test_of_several_frames_the_first():
    first, second = (Image.new("RGB", (3, 2), color) for color in ("red", "blue"))
    for kind in ("GIF", "TIFF", "WEBP"):
        data = encoded(first, kind, save_all=True, append_images=[second], **LOSSLESS.get(kind, {}))
        assert (decoded_or_refused(data) == [255, 0, 0]).all()


def test_floating_point_pixels_are_refused():
    with pytest.raises(BadImage, match="no known range"):
        decode(encoded(np.ones((2, 2), np.float32), "TIFF"))


@pytest.mark.parametrize("data, why", [(b"", "empty file"), (b"<html>404</html>", "not an image")])
def test_what_is_no_image_is_refused_with_a_reason(data, why):
    for read in (read_size, decode):
        with pytest.raises(BadImage, match=why):
            read(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000"])
def test_half_a_file_is_refused(kind):
    data = encoded(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8), kind)
    with pytest.raises(BadImage):
        decode(data[: len(data) // 2])


@given(data=st.binary(max_size=200))
@example(b"\0" * 18)
def test_random_bytes_do_no_more_than_be_refused(data):
    decoded_or_refused(data)


@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP"]), share=st.floats(0, 1))
def test_a_file_cut_anywhere_is_whole_or_refused(kind, share):
    data = encoded(PICTURE, kind)
    decoded_or_refused(data[: int(share * len(data))])


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds nothing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "size", [(2**31 - 1,) * 2, (16_000, 16_000), (8_001, 8_000), (MAX_SIDE + 1, 1), (1, MAX_SIDE + 1)]
)
def test_bombs_are_refused_by_their_header(size):
    for read in (read_size, decode):
        with pytest.raises(BadImage, match=f"limit of {MAX_PIXELS}"):
            read(png(*size))


@pytest.mark.parametrize("size", [(2**31 - 1,) * 2, (8_001, 8_000), (MAX_SIDE + 1, 1)])
@pytest.mark.parametrize("limit", [None, 178_956_970])
def test_bombs_are_refused_whatever_pillow_allows(monkeypatch, size, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for read in (read_size, decode):
        with pytest.raises(BadImage, match="limit of"):
            read(png(*size))


def test_the_limit_itself_is_allowed():
    assert 8_000 * 8_000 == MAX_PIXELS
    assert read_size(png(MAX_SIDE, 1)) == (1, MAX_SIDE)


def test_a_canvas_too_large_is_refused_before_a_decoder_is_made():
    """30 bytes of WebP that declare 16 million x 4 pixels."""
    canvas = b"VP8X" + struct.pack("<IB3x", 10, 0) + b"\xff\xff\xff" + b"\x03\0\0"
    data = b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas
    for read in (read_size, decode):
        with pytest.raises(BadImage, match=f"limit of {MAX_PIXELS}"):
            read(data)


# ---- depth, transparency and orientation that Pillow leaves to its user


def raw_png(size: tuple[int, int], depth: int, color: int, pixels: bytes, key: bytes = b"", late: bytes = b"") -> bytes:
    """A PNG of one line, written by hand: color 0 is grey, 2 is RGB."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0))
    key = chunk(b"tRNS", key) if key else b""
    return (
        b"\x89PNG\r\n\x1a\n" + header + key + chunk(b"IDAT", zlib.compress(b"\0" + pixels)) + late + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "depth, color, pixels, key, expected",
    [
        (4, 0, bytes([0x05, 0xF5]), (5,), [0, 255, 255, 255]),
        (2, 0, bytes([0b00_01_10_11]), (1,), [0, 255, 170, 255]),
        (8, 0, bytes([0, 9, 5, 7]), (9,), [0, 255, 5, 7]),
        (16, 0, struct.pack(">4H", 0, 40_000, 40_001, 512), (40_000,), [0, 255, 156, 2]),
        (
            16,
            2,
            struct.pack(">12H", *[0] * 3, *[40_000] * 3, *[50_000] * 3, *[512] * 3),
            (40_000,) * 3,
            [0, 255, 195, 2],
        ),
    ],
)
def test_a_transparent_color_of_any_depth_is_white(depth, color, pixels, key, expected):
    data = raw_png((4, 1), depth, color, pixels, struct.pack(f">{len(key)}H", *key))
    np.testing.assert_array_equal(decode(data)[0, :, 0], expected)


def tiff(tags: dict[int, int], pixels: bytes, width: int = 2, height: int = 1) -> bytes:
    """A little-endian TIFF with these tags, written by hand."""
    tags = {256: width, 257: height, 259: 1, 262: 1, 277: 1} | tags
    where = 279 if 322 not in tags else 325
    count = len(tags) + 2
    tags |= {where - (6 if where == 279 else 1): 14 + 12 * count, where: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", 0) + pixels


@pytest.mark.parametrize(
    "tags, pixels, expected",
    [
        ({258: 12}, bytes([0xFF, 0xF8, 0x00]), [255, 128]),
        ({258: 16}, struct.pack("<2H", 65_535, 32_768), [255, 128]),
        ({258: 16, 262: 0}, struct.pack("<2H", 65_535, 32_768), [0, 127]),
        ({258: 8, 262: 0}, bytes([255, 128]), [0, 127]),
    ],
)
def test_grey_is_scaled_by_its_depth_and_white_is_white(tags, pixels, expected):
    np.testing.assert_array_equal(decode(tiff(tags, pixels))[0, :, 0], expected)


@pytest.mark.parametrize("tags, size", [({258: 32}, "<2I"), ({258: 32, 339: 2}, "<2i"), ({258: 16, 339: 2}, "<2h")])
def test_pixels_without_a_known_range_are_refused(tags, size):
    with pytest.raises(BadImage, match="no known range: convert it to 8 or 16 bits"):
        decode(tiff(tags, struct.pack(size, 1, 2)))


@pytest.mark.parametrize("orientation", [1, 6])
def test_exif_behind_the_pixels_of_a_png_counts(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = raw_png((3, 1), 8, 0, b"abc", late=chunk(b"eXIf", exif.tobytes()[6:]))
    assert read_size(data) == decode(data).shape[:2] == ((3, 1) if orientation == 6 else (1, 3))


def test_the_size_of_a_png_is_read_without_its_pixels(monkeypatch):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    monkeypatch.setattr(PngImageFile, "load", lambda image: pytest.fail("decoded"))
    assert read_size(encoded(PICTURE)) == (4, 6) and read_size(encoded(PICTURE, exif=exif)) == (6, 4)


# ---- cheap to write, dear to decode


def test_a_jpeg_of_endless_scans_is_refused():
    data = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    head, last = data.rsplit(b"\xff\xda", 1)
    for scans, refused in [(50, False), (MAX_SCANS, True)]:
        many = head + (b"\xff\xda" + last[:-2]) * scans + b"\xff\xd9"
        if refused:
            with pytest.raises(BadImage, match="scans"):
                read_size(many)
        else:
            assert decode(many).shape == (64, 64, 3)


def test_a_tile_larger_than_all_images_is_refused_before_it_is_made():
    whole = tiff({258: 8, 322: 16, 323: 16}, bytes(256), 16, 16)
    assert decode(whole).shape == (16, 16, 3)
    with pytest.raises(BadImage, match=f"tiles exceed the limit of {MAX_PIXELS}"):
        read_size(tiff({258: 8, 322: 32_768, 323: 32_768}, bytes(256), 16, 16))


def test_only_regular_files_of_bounded_size_are_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(11))
    monkeypatch.setattr(data.sources.decode, "MAX_BYTES", 10)
    for name, why in [
        ("pipe", "not a regular file"),
        ("large", "11 bytes exceed the limit of 10"),
        ("none", "No such"),
    ]:
        with pytest.raises(BadImage, match=why):
            read_file(tmp_path / name)


def test_a_program_that_decodes_hears_no_warnings():
    """Not even from EXIF; and its own warnings stay as they are."""
    code = (
        "import sys, warnings; from data.sources.decode import decode, limit_pillow, read_size\n"
        "limit_pillow(); image = sys.stdin.buffer.read(); read_size(image); decode(image); warnings.warn('mine')"
    )
    broken = Image.Exif()
    broken[ORIENTATION], broken[315] = 6, "x" * 40
    image = encoded(PICTURE, "PNG", exif=broken.tobytes()[:-30])
    done = subprocess.run([sys.executable, "-c", code], input=image, capture_output=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0 and done.stderr.count(b"Warning") == 1, done.stderr
