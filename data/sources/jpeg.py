"""JPEG files decoded by simplejpeg, where it is installed: the same pixels as Pillow, faster."""

import numpy as np
from jaxtyping import UInt8

try:
    import simplejpeg  # pyright: ignore[reportMissingImports]
except ImportError:  # the extra `jpeg`
    simplejpeg = None


BLOCK = 8  # pixels; sizes of thinner images do not tell one scale from the next


def rgb_of(data: bytes, size: tuple[int, int], shrink: int = 1) -> UInt8[np.ndarray, "h w 3"] | None:
    """RGB pixels of a JPEG of `size` (height, width), at 1 / shrink of its sides, rounded up.

    None where Pillow has to decide: without the library, where a file is damaged, and for small images to be shrunk.
    """
    if simplejpeg is None or (shrink > 1 and min(size) < BLOCK):
        return None
    height, width = (-(-side // shrink) for side in size)
    scaled = {"min_height": height, "min_width": width, "min_factor": 1} if shrink > 1 else {}
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True, **scaled)
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None
