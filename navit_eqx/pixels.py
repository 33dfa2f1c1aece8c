"""Images of every kind → arrays h w C with the channels of the model; resize and patchify."""

import os
from math import prod
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Num, Shaped
from PIL import Image

from .band_files import bands_header, is_bands, read_bands
from .image_files import ImageError as ImageError
from .image_files import Picture, check_file, picture_size, read_picture

Source = Picture | np.ndarray | Array


class Header(NamedTuple):
    """Size and dtype of an image, read without decoding it."""

    size: tuple[int, int]
    """Height and width after EXIF orientation, in pixels."""
    dtype: np.dtype
    """dtype of `read_image`: uint8 or float32."""


def read_header(source: Source, channels: int, name: str | None = None) -> Header:
    """Size and dtype of `read_image(source, channels)`.   Raises ImageError where the header shows an error.

    >>> read_header(np.zeros((4, 6), np.uint8), channels=3).size
    (4, 6)
    """
    name = name or _name(source)
    check_file(source, name)
    if isinstance(source, Picture) and is_bands(source, channels):
        size, dtype = bands_header(source, channels, name)
        return Header(size, np.dtype(np.uint8 if dtype == np.uint8 else np.float32))
    if isinstance(source, Picture):
        return Header(picture_size(source, channels, name), np.dtype(np.uint8))
    array = _checked(source, channels, name)
    return Header(array.shape[:2], np.dtype(np.uint8 if array.dtype == np.uint8 else np.float32))


def reason(name: str, error: Exception) -> str:
    """Why an image cannot be used: errors of the system do not say it in words."""
    return f"{name} cannot be read, {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)


def read_image(source: Source, channels: int, name: str | None = None, shrink: int = 1) -> Num[np.ndarray, "h w C"]:
    """Read one image as an array with `channels` channels: uint8 in 0…255, or float32 (already normalized).

    Files and PIL images: EXIF orientation is applied, the first frame is converted to 1 (gray), 3 (RGB) or 4 (RGBA)
    channels of 8 bits. Transparency is composited on white unless C = 4; more than 8 bits are scaled to 8.
    Arrays: uint8 and floats are kept, uint16 becomes x / 32767.5 − 1. An array h w is gray, repeated for C = 3.
    NumPy files, and TIFF files with one page per channel where the channels are not 1, 3 or 4: as arrays h w C.
    A JPEG file is decoded at ⌈side / shrink⌉, shrink 1, 2, 4 or 8, where its orientation allows it.

    `name` is the name of the image in messages.   Raises ImageError, and OSError where a file cannot be opened.

    >>> read_image(np.zeros((4, 6), np.uint8), channels=3).shape
    (4, 6, 3)
    """
    name = name or _name(source)
    check_file(source, name)
    if isinstance(source, Picture) and is_bands(source, channels):
        return _scaled(read_bands(source, channels, name))
    if isinstance(source, Picture):
        return read_picture(source, channels, name, shrink)
    return _scaled(_checked(source, channels, name))


def resize(
    image: Num[np.ndarray, "h w C"],
    size: tuple[int, int],
    filter: str = "bilinear",
    box: tuple[float, float, float, float] | None = None,
) -> Num[np.ndarray, "h2 w2 C"]:
    """Resize `box` (left, top, right, bottom; default all) of an image to `size` (height, width), per channel.

    Choice: alpha is resized like any channel; colors are not weighted by it.   Raises ValueError for an unknown filter.

    >>> resize(np.zeros((48, 32, 3), np.uint8), (32, 24)).shape
    (32, 24, 3)
    """
    if filter.upper() not in Image.Resampling.__members__:
        raise ValueError(f"filter {filter!r} is none of {', '.join(Image.Resampling.__members__).lower()}")
    by = Image.Resampling[filter.upper()]
    resized = lambda pixels: np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), by, box=box))
    if image.dtype == np.uint8 and image.shape[2] == 3:  # three channels at once: equal values, faster
        return resized(image)
    return np.stack([resized(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])], -1)


def patchify(image: Num[np.ndarray, "h w C"], patch: tuple[int, int]) -> Num[np.ndarray, "T P"]:
    """Patches in raster order, each flattened as (row, column, channel)."""
    height, width, channels = image.shape
    blocks = image.reshape(height // patch[0], patch[0], width // patch[1], patch[1], channels)
    return blocks.swapaxes(1, 2).reshape(-1, prod(patch) * channels)


def _name(source: Source) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "the image"


def _checked(source, channels: int, name: str) -> Shaped[np.ndarray, "h w C"]:
    """The array h w C, of its own dtype.   Raises ImageError on another shape, another dtype or no pixel."""
    array = np.asarray(source)
    shape = " x ".join(map(str, array.shape))
    if array.ndim == 2:
        array = np.broadcast_to(array[..., None], (*array.shape, 3 if channels == 3 else 1))
    if array.ndim != 3 or array.shape[2] != channels:
        fix = "PIL.Image.fromarray(image) is converted" if array.dtype == np.uint8 else "convert it"
        fix = "image.transpose(1, 2, 0) puts channels last" if array.shape[:1] == (channels,) else fix
        raise ImageError(f"{name} is an array of {shape}, the model reads height x width x {channels}: {fix}")
    if not array.size:
        raise ImageError(f"{name} is an array of {shape}, without a pixel: leave it out")
    if array.dtype not in (np.uint8, np.uint16) and not np.issubdtype(array.dtype, np.floating):
        raise ImageError(
            f"{name} holds {array.dtype}, whose range is not known: convert it to uint8 (0…255), uint16 (0…65535) or "
            "float32 (already normalized)"
        )
    return array


def _scaled(array: Shaped[np.ndarray, "h w C"]) -> Num[np.ndarray, "h w C"]:
    if array.dtype == np.uint8:
        return array
    pixels = array.astype(np.float32)
    if array.dtype == np.uint16:  # in place: they may be many
        pixels /= np.float32(32767.5)
        pixels -= 1
    return pixels
