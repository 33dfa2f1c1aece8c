"""Mixing two images into one picture of both: mixup and CutMix, one image at a time.

The partner and its weight belong to an image, not to a batch, and both are drawn before packing: a row holds
finished pictures, so mixing cannot break the isolation of the images in it.
"""

import numpy as np
from jaxtyping import Num


def mixup(image: Num[np.ndarray, "h w C"], partner: Num[np.ndarray, "h w C"], weight: float) -> np.ndarray:
    """(1 − w) image + w partner, pixel by pixel.   [Zhang et al., arXiv:1710.09412]"""
    mixed = (1 - weight) * image + weight * partner
    return np.rint(mixed).astype(image.dtype) if image.dtype.kind == "u" else mixed


def cutmix(
    image: Num[np.ndarray, "h w C"], partner: Num[np.ndarray, "h w C"], box: tuple[int, int, int, int]
) -> tuple[np.ndarray, float]:
    """The image with a box (top, left, bottom, right) of the partner, and the box's share of the area.

    [Yun et al., arXiv:1905.04899]
    """
    top, left, bottom, right = box
    mixed = image.copy()
    mixed[top:bottom, left:right] = partner[top:bottom, left:right]
    return mixed, (bottom - top) * (right - left) / (image.shape[0] * image.shape[1])


def sample_box(rng: np.random.Generator, size: tuple[int, int], weight: float) -> tuple[int, int, int, int]:
    """A box of about the share `weight` of the area, of the image's own aspect ratio, wholly inside it.

    Choice: wholly inside, so that its mean share is the weight (the original lets the border cut it).
    """
    sides = [min(n, max(1, round(n * weight**0.5))) for n in size]
    # One number a side whatever the size, so that the picture is the same at another size.
    top, left = (int(rng.random() * (n - side + 1)) for n, side in zip(size, sides))
    return top, left, top + sides[0], left + sides[1]
