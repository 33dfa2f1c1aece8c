"""Bytes of an image file → upright pixels, by Pillow.

The header is checked against the limits below before anything is decoded (docs/bad_input.md).
"""

import io
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Num
from PIL import Image, UnidentifiedImageError

from ..errors import BadImage, check_in
from .bands import bands_header, is_array, read_bands
from .jpeg import rgb_of

MODES = {1: "L", 3: "RGB", 4: "RGBA"}

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels

MAX_BYTES = 1 << 28
MAX_PIXELS = 64_000_000
HEAVY = ("JPEG2000", "WEBP")  # half as many: their decoders take 16 to 25 bytes for a pixel
MAX_SIDE = 32_768
STRIP = 1 << 20  # pixels that are converted at once
MAX_SCANS = 100  # of a JPEG: a scan of thirty bytes makes a pass over all pixels
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
BACKGROUND = (255, 255, 255)  # behind transparent pixels

JPEG = ("JPEG", "MPO")
SHRINKS = (8, 4, 2)

# EXIF and TIFF tags.
BITS, PHOTOMETRIC, ORIENTATION, TILE_WIDTH, TILE_LENGTH = 258, 262, 274, 322, 323
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # views of an array h w C
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
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
    """Decode images at full size."""

    def shrink(self, box: Box, size: tuple[int, int]) -> int:
        return 1


@dataclass(frozen=True)
class Shrunk:
    """Decode JPEGs at 1/2, 1/4 or 1/8 of their size where the resized image needs no more pixels."""

    margin: float = 1.0
    """Fewest decoded pixels per pixel of the resized image, along each side."""

    def __post_init__(self):
        check_in("(0, inf)", margin=self.margin)

    def shrink(self, box: Box, size: tuple[int, int]) -> int:
        """Factor by which an image can be decoded smaller when `box` is resized to `size` (height, width)."""
        ratio = min((box[2] - box[0]) / size[1], (box[3] - box[1]) / size[0]) / self.margin
        return next((s for s in SHRINKS if s <= ratio), 1)


Decoding = Whole | Shrunk


def read_file(path: Path) -> bytes:
    """The bytes of a regular file of at most MAX_BYTES.   Raises BadImage."""
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
    image = open_image(data)
    width, height = image.size
    if image.format == "TIFF":  # Pillow has already rotated it
        return height, width
    if image.format == "PNG" and not _tags_follow_pixels(data):
        exif = lambda: Image.Image.getexif(image)  # the method of PNG images decodes all pixels
    else:
        exif = image.getexif
    return (width, height) if orientation_of(exif) >= 5 else (height, width)


def is_bands(data: bytes, channels: int) -> bool:
    """Whether `bands.py` reads an image: a NumPy file, or a number of channels other than 1, 3 and 4."""
    return channels not in MODES or is_array(data)


def read_type(data: bytes, channels: int) -> str:
    """Type of decoded pixels: uint8, or float32 for images of more bits read by `bands.py`.   Raises BadImage."""
    if not is_bands(data, channels):
        return "uint8"
    return "uint8" if bands_header(data, channels)[2] == np.uint8 else "float32"


def decode(data: bytes, shrink: int = 1, channels: int = 3) -> Num[np.ndarray, "h w C"]:
    """Upright pixels with 1 (gray), 3 (RGB) or 4 (RGBA) channels, or any other number of channels (bands.py).

    EXIF rotation is applied, transparency is composited on white, more than 8 bits are scaled to 8, and the first
    frame is used.

    A JPEG is decoded at 1 / shrink of its sides, rounded up, with shrink 1, 2, 4 or 8: fewer frequencies of its blocks
    are decoded, which is cheap and close to the mean over shrink x shrink pixels. Other formats, images with a side
    below `shrink`, and rotated images whose sides it does not divide are decoded at full size.
    Raises BadImage.
    """
    if is_bands(data, channels):
        return read_bands(data, channels)
    image = open_image(data)
    try:
        by = shrink if _shrinks(image, shrink) else 1
        pixels = None
        if image.format == "JPEG" and image.mode in ("L", "RGB") and channels == 3:
            pixels = rgb_of(data, (image.height, image.width), by)
        if pixels is None:
            if by > 1:
                image.draft(None, (image.width // by, image.height // by))
            image.load()
            pixels = _converted(image, data, channels)
        transpose = UPRIGHT.get(orientation_of(image.getexif))
        return pixels if transpose is None else np.ascontiguousarray(transpose(pixels))
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(f"cannot be decoded: {error or type(error).__name__}") from error


def _shrinks(image: Image.Image, shrink: int) -> bool:
    """Whether a JPEG can be decoded smaller: a partly covered last pixel must be last in the upright image too."""
    divides = all(side % shrink == 0 for side in image.size)
    return 1 < shrink <= min(image.size) and image.format in JPEG and (divides or orientation_of(image.getexif) == 1)


def open_image(data: bytes) -> Image.Image:
    """Open an image, read its header alone, and check all limits."""
    if not data:
        raise BadImage("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadImage(
            f"not an image of a known format, or its header is damaged: it begins with {data[:24]!r}"
        ) from None
    except Exception as error:  # the parsers of Pillow raise exceptions of any kind
        raise BadImage(f"cannot be opened: {error or type(error).__name__}") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise BadImage(f"an image of {width} x {height} pixels")
    most = MAX_PIXELS // 2 if image.format in HEAVY else MAX_PIXELS
    if width * height > most or max(width, height) > MAX_SIDE:
        raise BadImage(f"{width} x {height} pixels exceed the limit of {most} pixels, {MAX_SIDE} a side: scale it down")
    _check_cost(image, data)
    return image


def _check_cost(image: Image.Image, data: bytes) -> None:
    """Refuse small files that are expensive to decode."""
    if image.format in JPEG and data.count(b"\xff\xda") > MAX_SCANS:
        raise BadImage(f"more than {MAX_SCANS} scans of one JPEG: save it again")
    if image.format == "TIFF":
        tags = image.tag_v2  # pyright: ignore[reportAttributeAccessIssue]
        if _integer(tags.get(TILE_WIDTH)) * _integer(tags.get(TILE_LENGTH)) > MAX_PIXELS:
            raise BadImage(f"its tiles exceed the limit of {MAX_PIXELS} pixels: save it again")


def _integer(tag: object) -> int:
    """An integer tag; 0 for anything else, as in a damaged file."""
    return tag if isinstance(tag, int) else 0


def orientation_of(exif) -> int:
    """EXIF orientation, 1 to 8; 1 where it is absent or invalid."""
    try:
        value = int(exif().get(ORIENTATION, 1))
    except Exception:  # a damaged EXIF block has no orientation
        return 1
    return value if value in UPRIGHT else 1


def _tags_follow_pixels(data: bytes) -> bool:
    """Whether a PNG may have EXIF or XMP after its pixels."""
    pixels = data.find(b"IDAT")
    return any(data.find(kind, pixels) >= 0 for kind in (b"eXIf", b"iTXt", b"zTXt", b"tEXt"))


def _converted(image: Image.Image, data: bytes, channels: int) -> Num[np.ndarray, "h w C"]:
    """The pixels in `channels` channels, a strip at a time, so that conversion takes little memory."""
    if image.mode == "F":
        raise BadImage("floating-point pixels have no known range: convert it to 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    if tags and image.mode == "I":
        raise BadImage("signed or 32-bit pixels have no known range: convert it to 8 or 16 bits")
    depth, inverted = tags.get(BITS, (16,))[0], tags.get(PHOTOMETRIC) == 0
    if image.format == "PNG" and image.mode in ("L", "RGB") and "transparency" in image.info:
        image.info["transparency"] = _key_of_8_bits(image.info["transparency"], depth=data[24])
    width, height = image.size
    pixels, step = np.empty((height, width, channels), np.uint8), max(1, STRIP // width)
    for top in range(0, height, step):
        strip = image.crop((0, top, width, min(top + step, height)))
        if strip.mode.startswith("I"):
            strip = _deep_gray(strip, depth, inverted)
        pixels[top : top + step] = np.asarray(composited(strip, channels)).reshape(-1, width, channels)
    return pixels


def composited(image: Image.Image, channels: int) -> Image.Image:
    """An image in the mode of 1, 3 or 4 channels; transparency is composited on white where there is no alpha."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if channels < 4:
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image)
    return image.convert("RGB").convert("L") if channels == 1 else image.convert(MODES[channels])


def _deep_gray(image: Image.Image, depth: int, inverted: bool) -> Image.Image:
    """8-bit gray from more than 8 bits, which convert() would clip to white; `inverted`: white is zero, which Pillow
    inverts for up to 8 bits only."""
    values = np.asarray(image).astype(np.int64)
    gray = (values >> depth - 8).clip(0, 255).astype(np.uint8)
    deep = Image.fromarray(255 - gray if inverted else gray)
    if "transparency" in image.info:
        deep.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return deep


def _key_of_8_bits(key: int | tuple[int, ...], depth: int) -> int | tuple[int, ...]:
    """The transparent color of a PNG, from the bit depth of the file to that of the decoded pixels."""
    return tuple(k >> depth - 8 for k in key) if isinstance(key, tuple) else key * 255 // (2**depth - 1)


def resize(
    image: Num[np.ndarray, "h w C"], size: tuple[int, int], box: Box | None = None
) -> Num[np.ndarray, "h2 w2 C"]:
    """Resize `box` of an image to `size` (height, width), channel by channel: bilinear, antialiased."""
    resized = lambda pixels: np.asarray(
        Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
    )
    if image.dtype == np.uint8 and image.shape[2] == 3:  # all three channels at once: the same values, faster
        return resized(image)
    return np.stack([resized(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])], -1)
