"""Image files, read by Pillow: size limits, EXIF orientation, conversion to 1, 3 or 4 channels of 8 bits.

Pillow's global settings are not changed. An image that cannot be read is refused (`ImageError`), never repaired.
"""

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

Picture = str | os.PathLike | Image.Image

MAX_PIXELS = 64_000_000  # of a file or PIL image, checked in its header before anything is decoded
MAX_SIDE = 32_768
MAX_BYTES = 1 << 28  # of a file
MAX_SCANS = 100  # of a JPEG: a scan of thirty bytes makes a pass over all pixels
HEAVY = ("JPEG2000", "WEBP")  # half as many pixels: their decoders take 16 to 25 bytes for each
STRIP = 1 << 20  # pixels that are converted at once: what a conversion needs besides its result
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
WHITE = (255, 255, 255, 255)  # background of transparent pixels

ORIENTATION, BITS, PHOTOMETRIC, TILE_WIDTH, TILE_LENGTH = 274, 258, 262, 322, 323  # EXIF and TIFF tags
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # views of an array h w C
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


class ImageError(ValueError):
    """An image that cannot be used; the message names the image, the reason and the fix."""


def check_file(source: object, name: str) -> None:
    """Raises ImageError where a path is not a regular file or is too large, OSError where there is none."""
    if not isinstance(source, str | os.PathLike):
        return
    status = os.stat(source)
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{name} is not a regular file: name an image file")
    if status.st_size > MAX_BYTES:
        raise ImageError(f"{name} has {status.st_size} bytes, the limit is {MAX_BYTES}: scale it down")


def picture_size(source: Picture, channels: int, name: str) -> tuple[int, int]:
    """Height and width after EXIF orientation, from the header.   Raises ImageError where the image is refused."""
    image, data = _open(source, channels, name)
    width, height = image.size
    # Pillow reports the size of a TIFF after orientation. Tags of a PNG may follow its pixels: only then decode them.
    header_only = image.format == "PNG" and bool(data) and not _tags_follow_pixels(data)
    transposed = image.format != "TIFF" and _orientation(image, header_only) >= 5
    return (width, height) if transposed else (height, width)


def read_picture(source: Picture, channels: int, name: str, shrink: int = 1) -> UInt8[np.ndarray, "h w C"]:
    """All pixels, as specified by `navit_eqx.pixels.read_image`.   Raises ImageError where the image is refused."""
    image, data = _open(source, channels, name)
    try:
        if data and _can_shrink(image, shrink):  # never modify the caller's PIL image
            image.draft(None, (image.width // shrink, image.height // shrink))
        image.load()
        transpose = UPRIGHT.get(_orientation(image))
        pixels = _converted(image, channels, data, name)
    except ImageError:
        raise
    except Exception as error:  # decoders raise exceptions of any kind
        raise ImageError(f"{name} cannot be decoded, {error or type(error).__name__}: save it anew") from error
    return pixels if transpose is None else np.ascontiguousarray(transpose(pixels))


def _open(source: Picture, channels: int, name: str) -> tuple[Image.Image, bytes]:
    """The opened image, not yet decoded, and the bytes of its file (empty for a PIL image).   Raises ImageError."""
    if channels not in MODES:
        raise ImageError(f"{name} cannot become {channels} channels, only 1, 3 or 4: pass an array h w {channels}")
    data = b"" if isinstance(source, Image.Image) else Path(source).read_bytes()
    try:
        image = source if isinstance(source, Image.Image) else Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image of a known format, or is damaged: save it as PNG or JPEG") from None
    except Exception as error:  # parsers raise exceptions of any kind, Pillow's own limit included
        fix = "scale it down" if isinstance(error, Image.DecompressionBombError) else "save it anew"
        raise ImageError(f"{name} cannot be opened, {error or type(error).__name__}: {fix}") from error
    width, height = image.size
    if not width * height:
        raise ImageError(f"{name} has {width} x {height} pixels: leave it out")
    most = MAX_PIXELS // 2 if image.format in HEAVY else MAX_PIXELS
    if width * height > most or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"{name} has {width} x {height} pixels, the limit is {most} and {MAX_SIDE} a side: scale it down"
        )
    _check_cost(image, data, name)
    return image, data


def _check_cost(image: Image.Image, data: bytes, name: str) -> None:
    """Raises ImageError for a small file that is expensive to decode."""
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS:
        raise ImageError(f"{name} has more than {MAX_SCANS} scans: save it again")
    tile = [getattr(image, "tag_v2", {}).get(tag, 0) for tag in (TILE_WIDTH, TILE_LENGTH)]
    if all(isinstance(side, int) for side in tile) and tile[0] * tile[1] > MAX_PIXELS:
        raise ImageError(f"{name} has tiles of {tile[0]} x {tile[1]} pixels, the limit is {MAX_PIXELS}: save it again")


def _orientation(image: Image.Image, header_only: bool = False) -> int:
    """EXIF orientation, 1 to 8; 1 where the tag is missing or broken."""
    try:
        exif = Image.Image.getexif(image) if header_only else image.getexif()
        value = int(exif.get(ORIENTATION, 1))
    except Exception:  # a broken EXIF block has no orientation
        return 1
    return value if value in UPRIGHT else 1


def _tags_follow_pixels(png: bytes) -> bool:
    pixels = png.find(b"IDAT")
    return any(png.find(kind, pixels) >= 0 for kind in (b"eXIf", b"iTXt", b"zTXt", b"tEXt"))


def _can_shrink(image: Image.Image, shrink: int) -> bool:
    """Whether a JPEG can be decoded at 1/shrink. A partial last pixel must stay last after orientation."""
    divisible = all(side % shrink == 0 for side in image.size)
    return 1 < shrink <= min(image.size) and image.format in ("JPEG", "MPO") and (divisible or _orientation(image) == 1)


def _converted(image: Image.Image, channels: int, data: bytes, name: str) -> UInt8[np.ndarray, "h w C"]:
    """The pixels in `channels` channels of 8 bits, strip by strip.   Raises ImageError where the range is unknown."""
    if image.mode == "F" or image.mode == "I" and image.format in (None, "TIFF"):
        raise ImageError(f"{name} has mode {image.mode}, whose range is not known: pass an array, or 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    bits, white_is_zero = tags.get(BITS, (16,))[0], tags.get(PHOTOMETRIC) == 0
    if image.format == "PNG" and data and image.mode in ("L", "RGB") and "transparency" in image.info:
        image.info["transparency"] = _eight_bit_key(image.info["transparency"], depth=data[24])
    pixels = np.empty((image.height, image.width, channels), np.uint8)
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        if strip.mode.startswith("I"):
            strip = _eight_bits(strip, bits, white_is_zero)
        pixels[top : top + rows] = np.asarray(_in_mode(strip, channels)).reshape(-1, image.width, channels)
    return pixels


def _in_mode(image: Image.Image, channels: int) -> Image.Image:
    """The image in the mode with `channels` channels of 8 bits, transparency composited on white unless C = 4."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if channels < 4:
            image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    return image.convert("RGB").convert("L") if channels == 1 else image.convert(MODES[channels])


def _eight_bits(image: Image.Image, bits: int, white_is_zero: bool) -> Image.Image:
    """Gray of 9 to 16 bits scaled to 8 bits (`convert` would clip it), with alpha where a value is transparent."""
    values = np.asarray(image).astype(np.int64)
    gray = (values >> bits - 8).clip(0, 255).astype(np.uint8)
    if white_is_zero:
        gray = 255 - gray
    scaled = Image.fromarray(gray)
    if "transparency" in image.info:
        scaled.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return scaled


def _eight_bit_key(key: int | tuple[int, ...], depth: int) -> int | tuple[int, ...]:
    """The transparent color of a PNG, from the bit depth of the file to the 8 bits of Pillow's pixels."""
    return tuple(k >> depth - 8 for k in key) if isinstance(key, tuple) else key * 255 // (2**depth - 1)
