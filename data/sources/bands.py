"""Images with any number of channels: NumPy files, and TIFF files with one page per channel.

Values: uint8 unchanged, uint16 as x / 32767.5 − 1, floats unchanged, since they are taken as normalized.
"""

import io
import zipfile

import numpy as np
from jaxtyping import Num
from PIL import Image, ImageSequence

from ..errors import BadImage

MAX_BYTES = 256_000_000  # of pixels as they are stored, and as they are kept: uint8, or float32
ARRAY = b"\x93NUMPY"
DTYPES = {"L": "uint8", "I;16": "uint16", "I;16B": "uint16", "F": "float32"}  # of the pages of a TIFF, by mode


def is_array(data: bytes) -> bool:
    """Whether bytes are a .npy or .npz file."""
    return data.startswith(ARRAY) or data.startswith(b"PK\x03\x04")


def array_header(data: bytes, called: str = "") -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of a NumPy file, from its header alone; of several arrays in it, of the one that is `called` so.

    Raises BadImage.
    """
    try:
        if not data.startswith(ARRAY):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = archive.namelist()
                names = [f"{called}.npy"] if f"{called}.npy" in names else names
                if len(names) != 1:
                    raise BadImage(f"holds {len(names)} arrays: save one image per file")
                with archive.open(names[0]) as member:
                    data = member.read(4096)
        file = io.BytesIO(data)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, _, dtype = read[np.lib.format.read_magic(file)[0]](file)
    except BadImage:
        raise
    except Exception as error:  # parsers raise exceptions of any kind
        raise BadImage(f"is no NumPy file, {error or type(error).__name__}: save it again with numpy.save") from None
    return shape, dtype


def bands_header(data: bytes, channels: int) -> tuple[int, int, np.dtype]:
    """Height, width and dtype of an image, from its header alone.   Raises BadImage."""
    if is_array(data):
        shape, dtype = array_header(data)
        height, width = checked_shape(shape, channels)
    else:
        with opened(data, channels) as image:
            width, height = image.size
            if image.mode not in DTYPES:
                raise BadImage(f"has pages of mode {image.mode}: save pages of 8 or 16 bits, or float32")
            dtype = np.dtype(DTYPES[image.mode])
    if dtype not in (np.uint8, np.uint16) and not np.issubdtype(dtype, np.floating):
        raise BadImage(f"holds {dtype}, whose range is not known: convert it to uint8, uint16 or float32")
    size = height * width * channels * max(dtype.itemsize, 1 if dtype == np.uint8 else 4)
    if not 0 < size <= MAX_BYTES:
        raise BadImage(
            f"{height} x {width} x {channels} numbers, {size} bytes, the limit is {MAX_BYTES}: scale it down"
        )
    return height, width, dtype


def read_bands(data: bytes, channels: int) -> Num[np.ndarray, "h w C"]:
    """Decode an image of `channels` channels.   Raises BadImage."""
    height, width, _ = bands_header(data, channels)
    try:
        if is_array(data):
            found = np.load(io.BytesIO(data), allow_pickle=False)
            array = found if isinstance(found, np.ndarray) else next(iter(found.values()))
        else:
            with opened(data, channels) as image:
                array = np.stack([np.asarray(page) for page in ImageSequence.Iterator(image)], -1)
        pixels = scaled(array.reshape(height, width, channels))
    except BadImage:
        raise
    except Exception as error:  # decoders raise exceptions of any kind
        raise BadImage(f"cannot be decoded: {error or type(error).__name__}") from error
    if pixels.dtype != np.uint8 and not np.isfinite(pixels).all():
        raise BadImage("has values that are not finite: fix or remove it")
    return pixels


def scaled(pixels: Num[np.ndarray, "h w C"]) -> Num[np.ndarray, "h w C"]:
    """uint8 unchanged, uint16 as x / 32767.5 − 1, floats as float32."""
    if pixels.dtype == np.uint8:
        return pixels
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        values = pixels.astype(np.float32)
    if pixels.dtype == np.uint16:  # in place: they may be many
        values /= np.float32(32767.5)
        values -= 1
    return values


def checked_shape(shape: tuple[int, ...], channels: int) -> tuple[int, int]:
    """Height and width of an array of shape h w C, or h w where C is 1.   Raises BadImage."""
    if len(shape) == 2 and channels == 1:
        shape = (*shape, 1)
    if len(shape) != 3 or shape[2] != channels or min(shape) < 1:
        raise BadImage(f"is an array of {' x '.join(map(str, shape))}, the model reads height x width x {channels}")
    return shape[0], shape[1]


def opened(data: bytes, channels: int) -> Image.Image:
    """A TIFF file with one page per channel.   Raises BadImage."""
    try:
        image = Image.open(io.BytesIO(data), formats=("TIFF",))
        pages = getattr(image, "n_frames", 1)
    except Exception as error:  # parsers raise exceptions of any kind
        raise BadImage(f"is no TIFF file of pages, {error or type(error).__name__}: save it again") from error
    if pages != channels:
        raise BadImage(f"has {pages} pages, the model reads {channels} channels: save one page per channel")
    return image
