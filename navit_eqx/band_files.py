"""Image files read channel by channel: NumPy arrays, and TIFF files with one page per channel.

`navit_eqx.pixels` scales the values.
"""

import io
import os
import zipfile
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageSequence, UnidentifiedImageError

from .image_files import MODES, ImageError, Picture

MAX_BYTES = 256_000_000  # of pixels in the file, and as the model reads them: uint8, or float32
NPY, NPZ = b"\x93NUMPY", b"PK\x03\x04"
DTYPES = {"L": np.dtype("uint8"), "I;16": np.dtype("uint16"), "I;16B": np.dtype("uint16"), "F": np.dtype("float32")}


def is_bands(source: Picture, channels: int) -> TypeGuard[str | os.PathLike]:
    """Whether a file is read channel by channel: a NumPy file, or any file unless channels are 1, 3 or 4."""
    if isinstance(source, Image.Image):
        return False
    return channels not in MODES or is_array(source)


def is_array(path: str | os.PathLike) -> bool:
    """Whether a file is a .npy or .npz file, by its first bytes."""
    with Path(path).open("rb") as file:
        return file.read(len(NPY)).startswith((NPY, NPZ))


def bands_header(path: str | os.PathLike, channels: int, name: str) -> tuple[tuple[int, int], np.dtype]:
    """Height and width, and the dtype in the file, from its header.   Raises ImageError where the file is refused."""
    if is_array(path):
        shape, dtype = array_header(path, name)
        size = checked_size(shape, channels, name)
    else:
        image = opened(path, channels, name)
        size, dtype = (image.height, image.width), DTYPES.get(image.mode)
        if dtype is None:
            raise ImageError(f"{name} has pages of mode {image.mode}: save pages of 8 or 16 bits, or float32")
    if dtype not in DTYPES.values() and not np.issubdtype(dtype, np.floating):
        raise ImageError(f"{name} holds {dtype}, whose range is not known: convert it to uint8, uint16 or float32")
    kept = size[0] * size[1] * channels * max(dtype.itemsize, 1 if dtype == np.uint8 else 4)
    if kept > MAX_BYTES:
        raise ImageError(
            f"{name} has {size[1]} x {size[0]} pixels of {channels} channels, {kept} bytes, the limit is {MAX_BYTES}: "
            "scale it down"
        )
    return size, dtype


def read_bands(path: str | os.PathLike, channels: int, name: str) -> Shaped[np.ndarray, "h w C"]:
    """All channels, in the dtype of the file.   Raises ImageError where the file is refused."""
    (height, width), _ = bands_header(path, channels, name)
    try:
        if is_array(path):
            with Path(path).open("rb") as file:
                found = np.load(file, allow_pickle=False)
                array = found if isinstance(found, np.ndarray) else found[found.files[0]]
        else:
            pages = ImageSequence.Iterator(opened(path, channels, name))
            array = np.stack([np.asarray(page) for page in pages], -1)
        pixels = array.reshape(height, width, channels)
    except Exception as error:  # decoders raise exceptions of any kind
        raise ImageError(f"{name} cannot be decoded, {error or type(error).__name__}: save it anew") from error
    if np.issubdtype(pixels.dtype, np.floating) and not _finite(pixels):
        raise ImageError(f"{name} holds numbers that are not finite: mend or remove it")
    return pixels


def _finite(pixels: Shaped[np.ndarray, "h w C"]) -> bool:
    """Whether all numbers are finite in float32, where values too large are not; one row of pixels at a time."""
    with np.errstate(over="ignore"):
        return all(np.isfinite(row.astype(np.float32)).all() for row in pixels)


def array_header(path: str | os.PathLike, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of the array in a NumPy file.   Raises ImageError where it holds none, or several."""
    try:
        with Path(path).open("rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                return header_of(file)
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                if len(names) != 1:
                    raise ImageError(f"{name} holds {len(names)} arrays: save one image per file")
                with archive.open(names[0]) as member:
                    return header_of(member)
    except ImageError:
        raise
    except Exception as error:  # parsers raise exceptions of any kind
        raise ImageError(
            f"{name} is no NumPy file of one image, {error or type(error).__name__}: save it anew"
        ) from error


def header_of(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array in the format of .npy."""
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    shape, _, dtype = read[np.lib.format.read_magic(file)[0]](file)
    return shape, dtype


def checked_size(shape: tuple[int, ...], channels: int, name: str) -> tuple[int, int]:
    """Height and width of an array h w C, or h w where C is 1.   Raises ImageError on another shape."""
    full = (*shape, 1) if len(shape) == 2 and channels == 1 else shape
    if len(full) != 3 or full[2] != channels or min(full) < 1:
        found = " x ".join(map(str, shape))
        raise ImageError(f"{name} is an array of {found}, the model reads height x width x {channels}: convert it")
    return full[0], full[1]


def opened(path: str | os.PathLike, channels: int, name: str) -> Image.Image:
    """The opened TIFF file.   Raises ImageError unless it has one page per channel."""
    data = Path(path).read_bytes()
    try:
        image = Image.open(io.BytesIO(data), formats=("TIFF",))
        pages = getattr(image, "n_frames", 1)
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is neither a NumPy nor a TIFF file, and the model reads {channels} channels: save it as .npy"
        ) from None
    except Exception as error:  # parsers raise exceptions of any kind
        raise ImageError(f"{name} cannot be opened, {error or type(error).__name__}: save it anew") from error
    if pages != channels:
        raise ImageError(f"{name} has {pages} pages, the model reads {channels} channels: save one page per channel")
    return image
