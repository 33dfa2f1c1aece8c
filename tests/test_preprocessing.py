"""Size rules are the laws of training at one resolution; files are read as training reads them, by other code."""

import doctest
import io
import itertools
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.sampling.resolution import Areas, Native, NeverEnlarged, OneSquare, Sides, Square, TokenBudget
from data.sources.decode import decode, read_size
from navit_eqx import image_files, pixels, preprocessing, size_rules
from navit_eqx.errors import ConfigError
from navit_eqx.pixels import ImageError, read_header, read_image
from navit_eqx.preprocessing import Area, Fixed, Preprocessing, size_rule
from navit_eqx.preprocessing import TokenBudget as Budget
from navit_eqx.serialize import decode as decode_config
from navit_eqx.serialize import encode

ORIENTATION = 274
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)

sides = st.integers(1, 3000)
sizes = st.tuples(sides, sides)
plain = st.one_of(
    st.floats(1, 2000).map(Sides().at),
    st.integers(1, 2000).map(Sides().at),
    st.floats(1, 2000).map(Areas().at),
    st.floats(0.01, 4).map(Native().at),
    st.integers(1, 5000).map(TokenBudget),
)
laws = st.one_of(
    plain,
    plain.map(NeverEnlarged),
    plain.map(Square),
    plain.map(NeverEnlarged).map(Square),
    st.floats(1, 2000).map(OneSquare),
)


def has_the_grid_of(law, size, patch):
    """The rule of a law gives the law's own grid."""
    want = law.grids(np.random.default_rng(0), np.array([size], np.int32), patch)[0]
    assert size_rule(encode(law)).grid(size, patch) == tuple(want.tolist()), (law, size, patch)


patches = st.one_of(
    st.integers(1, 64).map(lambda side: (side, side)), st.tuples(st.integers(1, 64), st.integers(1, 64))
)


@given(law=laws, size=sizes, patch=patches)
def test_a_rule_is_its_law(law, size, patch):
    has_the_grid_of(law, size, patch)


def at_ties():
    """Laws, sizes and patches where a side has a whole number of patches, or all but one pixel of the next."""
    for patch, n, m in itertools.product(((1, 1), (3, 3), (14, 14), (16, 16), (5, 12)), range(1, 9), range(1, 9)):
        size = n * patch[0], m * patch[1]
        area = size[0] * size[1]
        for law in (Sides().at(area**0.5), Areas().at(area**0.5), Native().at(1), TokenBudget(n * m)):
            for tie in (law, NeverEnlarged(law), Square(law)):
                yield tie, size, patch
        yield Native().at(1), (size[0] + patch[0] - 1, size[1] + patch[1] // 2), patch
        yield Native().at(1 / 3), (3 * size[0], 3 * size[1]), patch
        yield Native().at(0.7), (10 * size[0], 10 * size[1]), patch


def test_rules_are_their_laws_at_ties():
    for tie in at_ties():
        has_the_grid_of(*tie)


@pytest.mark.parametrize("name, wrong", [("SLACK", 0.0), ("SLACK", 0.5), ("_whole", lambda x: max(1, round(x)))])
def test_another_rounding_is_caught(monkeypatch, name, wrong):
    monkeypatch.setattr(size_rules, name, wrong)
    with pytest.raises(AssertionError):
        for tie in at_ties():
            has_the_grid_of(*tie)


@given(size=sizes, patch=st.tuples(st.integers(1, 40), st.integers(1, 40)), tokens=st.integers(1, 2000))
def test_patches_need_not_be_square(size, patch, tokens):
    """Each side is counted in patches of its own; a budget depends on the image's shape in patches alone."""
    height, width = size
    own = max(1, height // patch[0]), max(1, width // patch[1])
    assert preprocessing.Native().grid(size, patch) == own
    assert preprocessing.NeverEnlarged(Area(1e6)).grid(size, patch) == own
    rows, columns = Budget(tokens).grid(size, patch)
    assert (rows, columns) == Budget(tokens).grid((height * patch[1], width * patch[0]), (1, 1))
    assert rows * columns <= tokens


def test_a_square_is_one_of_pixels():
    rows, columns = preprocessing.Square(Fixed(160, 640)).grid((300, 700), (8, 16))
    assert rows * columns == 20 * 40 and rows * 8 == columns * 16
    assert preprocessing.OneSquare(100).grid((300, 700), (8, 16)) == (12, 6)


def test_one_size_for_all():
    assert Fixed(224, 448).grid((3, 999), (16, 8)) == (14, 56)
    with pytest.raises(ValueError, match="no whole patches"):
        Fixed(384, 384).grid((3, 999), (14, 14))


@pytest.mark.parametrize("law", [Sides(), Areas(), Sides(24, 48), Native(0.5, 1.0), NeverEnlarged(Sides()), Fixed()])
def test_a_random_law_is_no_rule(law):
    with pytest.raises(ValueError, match="sampling.at"):
        size_rule(encode(law))


def test_preprocessing_is_stored_with_a_model():
    how = Preprocessing(preprocessing.Square(preprocessing.NeverEnlarged(Budget(100))), "bicubic", 4, 512, 8, 1.5)
    assert decode_config(Preprocessing, encode(how)) == how
    with pytest.raises(ConfigError, match="filter"):
        decode_config(Preprocessing, encode(how) | {"filter": "cubic"})
    with pytest.raises(ValueError, match="'cubic' is none of nearest, "):
        pixels.resize(PICTURE, (2, 2), "cubic")


def encoded(image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def tags_behind_pixels(png: bytes) -> bytes:
    """The same PNG with its EXIF block moved to the end."""
    start = png.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", png[start : start + 4])[0]
    return png[:start] + png[end:-12] + png[start:end] + png[-12:]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int = 8, color: int = 2, key: bytes = b"", lines: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    key = chunk(b"tRNS", key) if key else b""
    return b"\x89PNG\r\n\x1a\n" + header + key + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def examples() -> dict[str, bytes]:
    """Files of every mode, orientation, depth and kind of transparency."""
    image = Image.fromarray(PICTURE)
    alpha = Image.fromarray(PICTURE[..., 0])
    with_alpha = image.copy()
    with_alpha.putalpha(alpha)
    grey = image.convert("L")
    palette = image.quantize(9)
    deep = PICTURE[..., 0].astype(np.uint16) * 250 + 77
    found = {
        "rgb": encoded(image, "PNG"),
        "grey": encoded(grey, "PNG"),
        "grey jpeg": encoded(grey, "JPEG"),
        "bits": encoded(image.convert("1"), "PNG"),
        "palette": encoded(palette, "PNG"),
        "palette with a key": encoded(palette, "PNG", transparency=3),
        "rgba": encoded(with_alpha, "PNG"),
        "la": encoded(with_alpha.convert("LA"), "PNG"),
        "rgb with a key": encoded(image, "PNG", transparency=tuple(PICTURE[2, 3].tolist())),
        "grey with a key": encoded(grey, "PNG", transparency=grey.getpixel((2, 3))),
        "cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "cmyk tiff": encoded(image.convert("CMYK"), "TIFF"),
        "16 bits": encoded(deep, "PNG"),
        "16 bits tiff": encoded(deep, "TIFF"),
        "16 bits with a key": encoded(deep, "PNG", transparency=int(deep[2, 3])),
        "2 bits with a key": png(4, 1, 2, 0, key=b"\0\2", lines=b"\0\x1b"),
        "48 bits with a key": png(2, 1, 16, 2, key=b"\x12\x34\1\2\3\4", lines=b"\0\x12\x34\1\2\3\4" + bytes(6)),
        "tags behind pixels": tags_behind_pixels(encoded(image, "PNG", exif=turned(6))),
    }
    for kind, n in itertools.product(("JPEG", "PNG", "TIFF", "WEBP"), range(1, 9)):
        found[f"{kind} turned {n}"] = encoded(image, kind, exif=turned(n))
    return found


FILES = examples()


def is_read_as_in_training(path, data):
    """The same pixels as those of `data.decode`, whether a path or a PIL image is given."""
    want = decode(data)
    path.write_bytes(data)
    for source in (str(path), path):
        got = read_image(source, 3)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, want)
    assert read_header(path, 3) == (read_size(data), np.uint8) and read_size(data) == want.shape[:2]
    grey = np.asarray(Image.fromarray(want).convert("L"))
    np.testing.assert_array_equal(read_image(path, 1), grey[..., None])


@pytest.mark.parametrize("name", FILES)
def test_files_are_read_as_in_training(tmp_path, name):
    is_read_as_in_training(tmp_path / "image", FILES[name])


@pytest.mark.parametrize("name", [name for name in FILES if "bits with a key" not in name])
def test_a_pil_image_is_its_file(tmp_path, name):
    """Opened alone, measured, or loaded; and it stays as it is."""
    want = decode(FILES[name])
    fresh, measured, loaded = (Image.open(io.BytesIO(FILES[name])) for _ in range(3))
    assert read_header(measured, 3).size == want.shape[:2]
    loaded.load()
    for image in (fresh, measured, loaded):
        mode = image.mode
        for _ in range(2):
            np.testing.assert_array_equal(read_image(image, 3), want)
        assert image.mode == mode


@pytest.mark.parametrize(
    "name, attribute, wrong",
    [
        ("JPEG turned 6", "UPRIGHT", {}),
        ("PNG turned 5", "UPRIGHT", {**image_files.UPRIGHT, 5: np.rot90}),
        ("rgba", "WHITE", (0, 0, 0, 255)),
        ("palette with a key", "WHITE", (0, 0, 0, 255)),
        ("16 bits", "_eight_bits", lambda image, *_: image),
        ("48 bits with a key", "_eight_bit_key", lambda key, depth: key),
        ("tags behind pixels", "_tags_follow_pixels", lambda data: False),
        ("cmyk", "_converted", lambda image, *_: np.asarray(image)[..., :3]),
    ],
)
def test_another_reading_is_caught(tmp_path, monkeypatch, name, attribute, wrong):
    monkeypatch.setattr(image_files, attribute, wrong)
    with pytest.raises(AssertionError):
        is_read_as_in_training(tmp_path / "image", FILES[name])


@pytest.mark.parametrize("shrink", [2, 4, 8])
@pytest.mark.parametrize("size, orientation", [((40, 64), 6), ((41, 63), 1), ((41, 63), 3), ((5, 90), 1)])
def test_a_jpeg_is_read_smaller_as_in_training(tmp_path, shrink, size, orientation):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    data = encoded(image, "JPEG", exif=turned(orientation))
    (tmp_path / "image.jpg").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "image.jpg", 3, shrink=shrink), decode(data, shrink))


@given(
    size=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    target=st.tuples(st.integers(1, 600), st.integers(1, 600)),
    margin=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_a_jpeg_is_read_no_smaller_than_it_is_shown(size, target, margin):
    """On both sides, with the margin; and no larger than it need be."""
    shrink = Preprocessing(Area(64), decode_margin=margin).shrink(size, target)
    enough = [s for s in (1, 2, 4, 8) if s == 1 or margin and all(n / s >= margin * m for n, m in zip(size, target))]
    assert shrink == max(enough)


def test_alpha_is_kept_where_it_is_read(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 4), np.uint8)
    (tmp_path / "image.png").write_bytes(encoded(image, "PNG"))
    for source in (tmp_path / "image.png", Image.fromarray(image), image):
        np.testing.assert_array_equal(read_image(source, 4), image)
    (tmp_path / "deep.png").write_bytes(FILES["16 bits with a key"])
    alpha = read_image(tmp_path / "deep.png", 4)[..., 3]
    assert alpha[2, 3] == 0 and alpha.max() == 255


def test_arrays_keep_their_depth():
    numbers = np.array([[0, 32768], [65535, 1]], np.uint16)
    scaled = read_image(numbers, 1)
    assert scaled.dtype == np.float32 and scaled.min() == -1 and scaled.max() == 1
    np.testing.assert_array_equal(scaled[..., 0], numbers.astype(np.float32) / np.float32(32767.5) - 1)
    for dtype in (np.float16, np.float32, np.float64):
        floats = np.random.default_rng(0).normal(size=(3, 2, 6)).astype(dtype)
        assert read_header(floats, 6) == ((3, 2), np.float32)
        np.testing.assert_array_equal(read_image(floats, 6), floats.astype(np.float32))
    np.testing.assert_array_equal(read_image(PICTURE[..., 0], 3), np.stack([PICTURE[..., 0]] * 3, -1))


@pytest.mark.parametrize(
    "source, channels, message",
    [
        (np.zeros((5, 4, 2), np.uint8), 3, "scan.png is an array of 5 x 4 x 2.* reads height x width x 3"),
        (np.zeros((3, 5, 4), np.uint8), 3, "transpose.* puts channels last"),
        (np.zeros((5, 4, 4), np.uint8), 3, "fromarray"),
        (np.zeros((5, 4, 1), np.uint8), 3, "5 x 4 x 1"),
        (np.zeros((5, 4), np.uint8), 6, "5 x 4, the model"),
        (np.zeros((0, 4, 3), np.uint8), 3, "without a pixel"),
        (np.zeros((5, 4, 3), np.int64), 3, "int64, whose range is not known"),
        (np.zeros((5, 4, 3), bool), 3, "bool, whose range is not known"),
        (Image.new("F", (3, 2)), 3, "mode F"),
        (Image.new("I", (3, 2)), 3, "mode I"),
        (Image.new("RGB", (3, 2)), 6, "cannot become 6 channels"),
        (Image.new("L", (32_769, 1)), 1, "limit is 64000000 and 32768 a side"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(source, channels, message):
    with pytest.raises(ImageError, match=message) as error:
        read_image(source, channels, name="scan.png")
    assert str(error.value).startswith("scan.png ")


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "not an image of a known format"),
        (b"<html>404</html>", "not an image of a known format"),
        (FILES["JPEG turned 1"][:-40], "cannot be decoded, .*truncated"),
        (png(8_001, 8_000), "bad.png .*8001 x 8000 pixels, the limit is .*: scale it down"),
        (png(60_000, 50_000), "scale it down"),
        (encoded(np.ones((2, 2), np.float32), "TIFF"), "mode F"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_its_path(tmp_path, data, message):
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=message) as error:
        read_image(path, 3)
    assert str(path) in str(error.value)
    with pytest.raises(FileNotFoundError, match="missing.png"):
        read_image(tmp_path / "missing.png", 3)


def test_pillow_is_left_alone(tmp_path):
    """Neither importing nor reading changes Pillow's limits, Python's warnings, or imports the rest of the project."""
    (tmp_path / "image.png").write_bytes(FILES["rgba"])
    code = (
        "import sys, warnings; from PIL import Image, ImageFile\n"
        "for name in ('data', 'reference', 'harness'): sys.modules[name] = None\n"
        "import jax, equinox, numpy\n"
        "state = lambda: (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))\n"
        "before = state()\n"
        "from navit_eqx.images import read_image\n"
        f"read_image({str(tmp_path / 'image.png')!r}, 3)\n"
        "assert state() == before"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", [pixels, preprocessing])
def test_docstrings_are_true(module):
    tried = doctest.testmod(module)
    assert tried.attempted and not tried.failed
