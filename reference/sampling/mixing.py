"""Mixing an image with a partner: mixup and CutMix, one image at a time.

Partner and weight are drawn per image, not per batch, before packing. A row holds mixed images, so mixing cannot break
the isolation of the images in it.
"""

import numpy as np
from jaxtyping import Num


def mixup(image: Num[np.ndarray, "h w C"], partner: Num[np.ndarray, "h w C"], weight: float) -> np.ndarray:
    """(1 − w) image + w partner, per pixel; unsigned integers are rounded.   [Zhang et al., arXiv:1710.09412]"""
    mixed = (1 - weight) * image + weight * partner
    return np.rint(mixed).astype(image.dtype) if image.dtype.kind == "u" else mixed


def cutmix(
    image: Num[np.ndarray, "h w C"], partner: Num[np.ndarray, "h w C"], box: tuple[int, int, int, int]
) -> tuple[np.ndarray, float]:
    """The image with a box (top, left, bottom, right) of the partner, and the share of the area in the box.

    [Yun et al., arXiv:1905.04899]
    """
    top, left, bottom, right = box
    mixed = image.copy()
    mixed[top:bottom, left:right] = partner[top:bottom, left:right]
    return mixed, (bottom - top) * (right - left) / (image.shape[0] * image.shape[1])


def sample_box(rng: np.random.Generator, size: tuple[int, int], weight: float) -> tuple[int, int, int, int]:
    """A random box (top, left, bottom, right) with the aspect ratio of the image and about `weight` of its area.

    Choice: inside the image, so that its mean share is the weight (the original clips the box at the border).
    """
    sides = [min(n, max(1, round(n * weight**0.5))) for n in size]
    # One random number per side for every size, so that the mixed image is the same at another size.
    top, left = (int(rng.random() * (n - side + 1)) for n, side in zip(size, sides))
    return top, left, top + sides[0], left + sides[1]
