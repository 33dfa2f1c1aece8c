"""Bytes of an image file → upright pixels, or a reason why not.   Pillow knows every format and mode.

Nothing is decoded before the header was held against the limits below (docs/bad_input.md).
"""

import io
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Num
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose

from ..errors import BadImage, check_in
from .bands import bands_header, is_array, read_bands

MODES = {1: "L", 3: "RGB", 4: "RGBA"}

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels

MAX_BYTES = 1 << 28
MAX_PIXELS = 64_000_000
MAX_SIDE = 32_768
MAX_SCANS = 100  # of a JPEG: thirty bytes each, and each passes over all pixels
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
BACKGROUND = (255, 255, 255)  # what shows through transparent pixels

JPEG = ("JPEG", "MPO")
SHRINKS = (8, 4, 2)

# EXIF and TIFF tags.
BITS, PHOTOMETRIC, ORIENTATION, TILE_WIDTH, TILE_LENGTH = 258, 262, 274, 322, 323
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def limit_pillow() -> None:
    """Set Pillow's own limit and silence its warnings in this process; for programs, since both are global.

    Pillow warns above its limit and raises above twice that, also where a decoder or a frame would allocate more. What
    it warns of is either harmless or refused here; `catch_warnings` is not safe in threads that decode.
    """
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
    warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Whole:
    """Images are decoded at their full size."""

    def shrink(self, box: Box, size: tuple[int, int]) -> int:
        return 1


@dataclass(frozen=True)
class Shrunk:
    """JPEGs are decoded at a half, a quarter or an eighth of their size where no more is shown of them."""

    margin: float = 1.0
    """Decoded pixels a side for each one that is shown, at least."""

    def __post_init__(self):
        check_in("(0, inf)", margin=self.margin)

    def shrink(self, box: Box, size: tuple[int, int]) -> int:
        """By how much an image may be smaller of which `box` is shown at `size` (height, width)."""
        ratio = min((box[2] - box[0]) / size[1], (box[3] - box[1]) / size[0]) / self.margin
        return next((s for s in SHRINKS if s <= ratio), 1)


Decoding = Whole | Shrunk


def read_file(path: Path) -> bytes:
    """The content of a regular file that is not too large.   Raises BadImage."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("not a regular file")
        if status.st_size > MAX_BYTES:
            raise BadImage(f"{status.st_size} bytes exceed the limit of {MAX_BYTES}: scale it down")
        return path.read_bytes()
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror}") from error


def read_size(data: bytes, channels: int = 3) -> tuple[int, int]:
    """Upright height and width, from the header alone.   Raises BadImage."""
    if is_bands(data, channels):
        height, width, _ = bands_header(data, channels)
        return height, width
    image = _open(data)
    width, height = image.size
    if image.format == "TIFF":  # Pillow has turned it
        return height, width
    if image.format == "PNG" and not _tags_follow_pixels(data):
        exif = lambda: Image.Image.getexif(image)  # its own method decodes all pixels in search of what follows them
    else:
        exif = image.getexif
    return (width, height) if _orientation(exif) >= 5 else (height, width)


def is_bands(data: bytes, channels: int) -> bool:
    """Whether an image is read channel by channel: a NumPy file, or one of other channels than 1, 3 and 4."""
    return channels not in MODES or is_array(data)


def read_type(data: bytes, channels: int) -> str:
    """uint8, or float32 for images of more bits that are read channel by channel.   Raises BadImage."""
    if not is_bands(data, channels):
        return "uint8"
    return "uint8" if bands_header(data, channels)[2] == np.uint8 else "float32"


def decode(data: bytes, shrink: int = 1, channels: int = 3) -> Num[np.ndarray, "h w C"]:
    """Upright pixels of 1 (grey), 3 (RGB) or 4 (RGBA) channels, or of as many as the file has (bands.py).

    Rotation is applied, transparency laid on white, more than 8 bits are scaled to 8; the first frame counts.

    A JPEG comes at ⌈1 / shrink⌉ of its sides, shrink 1, 2, 4 or 8: fewer frequencies of its blocks are turned into
    pixels, which is cheap and about an average of shrink x shrink pixels. Other formats, images with a side below
    `shrink`, and turned ones whose sides it does not divide come as they are.
    Raises BadImage.
    """
    if is_bands(data, channels):
        return read_bands(data, channels)
    image = _open(data)
    try:
        if _shrinks(image, shrink):
            image.draft(None, (image.width // shrink, image.height // shrink))
        image.load()
        turn = UPRIGHT.get(_orientation(image.getexif))
        image = _converted(image, data, channels)
        pixels = np.asarray(image if turn is None else image.transpose(turn))
        return pixels.reshape(*pixels.shape[:2], channels)
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(f"cannot be decoded: {error or type(error).__name__}") from error


def _shrinks(image: Image.Image, shrink: int) -> bool:
    """A last pixel that is only partly covered must be the last of the upright image too."""
    whole = all(side % shrink == 0 for side in image.size)
    return 1 < shrink <= min(image.size) and image.format in JPEG and (whole or _orientation(image.getexif) == 1)


def _open(data: bytes) -> Image.Image:
    """An image of which the header alone was read, within all limits."""
    if not data:
        raise BadImage("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadImage(
            f"not an image of a known format, or its header is damaged: it begins with {data[:24]!r}"
        ) from None
    except Exception as error:  # Pillow's parsers raise whatever they meet
        raise BadImage(f"cannot be opened: {error or type(error).__name__}") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise BadImage(f"an image of {width} x {height} pixels")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise BadImage(
            f"{width} x {height} pixels exceed the limit of {MAX_PIXELS} pixels, {MAX_SIDE} a side: scale it down"
        )
    _check_cost(image, data)
    return image


def _check_cost(image: Image.Image, data: bytes) -> None:
    """Refuse what is cheap to write and dear to decode, although the image itself is small."""
    if image.format in JPEG and data.count(b"\xff\xda") > MAX_SCANS:
        raise BadImage(f"more than {MAX_SCANS} scans of one JPEG: save it anew")
    if image.format == "TIFF":
        tags = image.tag_v2  # pyright: ignore[reportAttributeAccessIssue]
        if _integer(tags.get(TILE_WIDTH)) * _integer(tags.get(TILE_LENGTH)) > MAX_PIXELS:
            raise BadImage(f"its tiles exceed the limit of {MAX_PIXELS} pixels: save it anew")


def _integer(tag: object) -> int:
    """A tag of a damaged file may hold anything."""
    return tag if isinstance(tag, int) else 0


def _orientation(exif) -> int:
    """1 to 8; 1 where it says nothing, or nothing that exists."""
    try:
        value = int(exif().get(ORIENTATION, 1))
    except Exception:  # a broken EXIF block says nothing about orientation
        return 1
    return value if value in UPRIGHT else 1


def _tags_follow_pixels(data: bytes) -> bool:
    """Whether a PNG may hold EXIF or XMP behind its pixels."""
    pixels = data.find(b"IDAT")
    return any(data.find(kind, pixels) >= 0 for kind in (b"eXIf", b"iTXt", b"zTXt", b"tEXt"))


def _converted(image: Image.Image, data: bytes, channels: int) -> Image.Image:
    if image.mode == "F":
        raise BadImage("floating-point pixels have no known range: convert it to 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _deep_grey(image)
    elif image.format == "PNG" and image.mode in ("L", "RGB") and "transparency" in image.info:
        image.info["transparency"] = _key_of_8_bits(image.info["transparency"], depth=data[24])
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if channels < 4:
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image)
    return image.convert("RGB").convert("L") if channels == 1 else image.convert(MODES[channels])


def _deep_grey(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits, which convert() would clip to white."""
    tags = getattr(image, "tag_v2", {})
    if tags and image.mode == "I":
        raise BadImage("signed or 32-bit pixels have no known range: convert it to 8 or 16 bits")
    values = np.asarray(image).astype(np.int64)
    grey = (values >> tags.get(BITS, (16,))[0] - 8).clip(0, 255).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == 0:  # white is zero, which Pillow minds up to 8 bits
        grey = 255 - grey
    deep = Image.fromarray(grey)
    if "transparency" in image.info:
        deep.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return deep


def _key_of_8_bits(key: int | tuple[int, ...], depth: int) -> int | tuple[int, ...]:
    """A PNG's transparent colour as deep as the pixels that Pillow gives; it keeps the depth of the file."""
    return tuple(k >> depth - 8 for k in key) if isinstance(key, tuple) else key * 255 // (2**depth - 1)


def resize(
    image: Num[np.ndarray, "h w C"], size: tuple[int, int], box: Box | None = None
) -> Num[np.ndarray, "h2 w2 C"]:
    """`box` of the image at `size` (height, width), each channel for itself: bilinear, antialiased."""
    shown = lambda pixels: np.asarray(
        Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
    )
    if image.dtype == np.uint8 and image.shape[2] == 3:  # three at once: the same numbers, sooner
        return shown(image)
    return np.stack([shown(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])], -1)
