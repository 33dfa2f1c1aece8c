"""What a threshold of brightness knows of an image: the floor of masks of two classes.

Source: Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on Systems, Man, and
Cybernetics 9 (1979).
"""

import numpy as np
from jaxtyping import Bool, Integer, UInt8


def otsu(counts: Integer[np.ndarray, " L"]) -> int:
    """The level k that parts the pixels up to k from those above with the largest variance between both.

        k = argmax_k n_0 n_1 (m_0 - m_1)^2        n: numbers of pixels, m: mean levels of the two parts

    `counts` are the pixels of each level; of equal maxima the first is taken, and 0 where there is one level alone.
    """
    levels, total = np.arange(len(counts)), counts.sum()
    below = np.cumsum(counts, dtype=float)
    weight = np.cumsum(counts * levels, dtype=float)
    above = total - below
    parted = (below > 0) & (above > 0)
    means = weight / np.maximum(below, 1), (weight[-1] - weight) / np.maximum(above, 1)
    return int(np.where(parted, below * above * (means[0] - means[1]) ** 2, 0.0).argmax())


def luma(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """Brightness of colors, 0.299 R + 0.587 G + 0.114 B rounded.   [ITU-R BT.601]"""
    weights = np.array([19595, 38470, 7471])  # of 2^16, which is their sum
    return ((pixels.astype(np.int64) @ weights + (1 << 15)) >> 16).astype(np.uint8)


def smaller_side(gray: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The pixels on the side of Otsu's threshold that has fewer of them; the bright ones where both have as many.

    `Choice:` the rarer class is taken for the smaller part, since it is dark in some images and bright in others.
    """
    bright = gray > otsu(np.bincount(gray.ravel(), minlength=256))
    return bright if 2 * bright.sum() <= bright.size else ~bright
