"""Bytes of an image file → upright RGB uint8, or a reason why not.   Pillow knows every format and mode."""

import io
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from .errors import BadImage

MAX_PIXELS = 64_000_000
MAX_SIDE = 32_768
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 exchange height and width
BACKGROUND = (255, 255, 255)  # what shows through transparent pixels

# Pillow warns above this and raises above twice this, also where a decoder or a frame would allocate more.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImage(str(error)) from error
    except Exception as error:  # Pillow's parsers raise whatever they meet
        raise BadImage("not an image" if data else "empty file") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise BadImage(f"an image of {width} x {height} pixels")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise BadImage(f"{width} x {height} pixels exceed the limit of {MAX_PIXELS} pixels, {MAX_SIDE} a side")
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # a broken EXIF block says nothing about orientation
        return 1


def read_size(data: bytes) -> tuple[int, int]:
    """Upright height and width, from the header alone.   Raises BadImage."""
    image = _open(data)
    width, height = image.size
    turned = image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8)  # Pillow turns a TIFF's itself
    return (width, height) if turned else (height, width)


def decode(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Upright RGB: rotation applied, transparency laid on white, 16 bits scaled to 8, the first frame.

    Raises BadImage.
    """
    image = _open(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            return np.asarray(_to_rgb(_upright(image)))
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(f"cannot be decoded: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if _orientation(image) != 1 else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):  # convert() would clip 16-bit grey to white
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise BadImage("floating-point pixels have no known range; convert it to 8 or 16 bits")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image)
    return image.convert("RGB")
