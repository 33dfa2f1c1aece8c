"""Complexity: one number that says before an image is planned how much of it large patches lose.

It is measured once for each image, at a small size, and kept with sizes and labels; rates of merging and of dropping
may follow it, and the number of tokens is known before a row is read.   Choice: [APT] counts after pixels were read.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num

from ..adaptive import block_sums

SIDE = 64  # of the area in pixels at which complexity is measured
BOX = 4  # pixels that a box has on each side


def complexity_size(size: Sequence[int]) -> tuple[int, int]:
    """Height and width at which complexity is measured: whole boxes, about SIDE² pixels, not larger than the image."""
    root = float(np.sqrt(size[0] * size[1]))
    height, width = (max(1, round(n * SIDE / max(SIDE, root) / BOX)) * BOX for n in size)
    return height, width


def complexity(image: Num[np.ndarray, "h w C"]) -> float:
    """Root mean square error of an image, in levels of its pixels, when boxes of 4 x 4 pixels are replaced by means.

    √(Σ (x − mean of its box)² / (h w C)), of an image of whole boxes: 0 is flat. Exact sums for bytes.
    """
    x = image.astype(float)
    error = (x**2).sum() - (block_sums(x, (BOX, BOX)) ** 2).sum() / BOX**2
    return float(np.sqrt(max(error, 0.0) / x.size))


def quantiles_of(values: Float[np.ndarray, " N"], count: int) -> Float[np.ndarray, " count"]:
    """The values at the middles of `count` equal shares of all images."""
    return np.quantile(values, (np.arange(count) + 0.5) / count)


def ranks(values: Float[np.ndarray, " N"], quantiles: Sequence[float]) -> Float[np.ndarray, " N"]:
    """The share of `quantiles` below each value, plus half of those equal to it: ½ in the mean over the quantiles."""
    sides = (np.searchsorted(np.asarray(quantiles), values, side) for side in ("left", "right"))
    return np.asarray(sum(sides) / (2 * len(quantiles)))


def rate_by_complexity(
    mean: float | Float[np.ndarray, " N"], spread: float, rank: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """mean + min(spread, mean, 1 − mean) (1 − 2 rank): the plainest images lose most; `mean` where the mean rank is ½.

    The range is narrower near 0 and 1, so that no rate is beyond them and the mean stays.
    """
    return mean + np.minimum(spread, np.minimum(mean, 1 - mean)) * (1 - 2 * rank)
