"""Complexity: one number for an image that says how much of it large patches lose; rates of merging follow it.

It is measured at a small size, whatever the resolution at which the image is read.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Num

SIDE = 64  # of the area in pixels at which complexity is measured
BOX = 4  # pixels that a box has on each side


def complexity_size(size: Sequence[int]) -> tuple[int, int]:
    """Height and width at which complexity is measured.

    >>> complexity_size((480, 640)), complexity_size((9, 30))
    ((56, 72), (8, 32))
    """
    larger = max(SIDE, float(np.sqrt(size[0] * size[1])))
    height, width = (BOX * max(1, round(side * SIDE / larger / BOX)) for side in size)
    return height, width


def complexity(image: Num[np.ndarray, "h w C"]) -> float:
    """√(Σ (x − mean of its box of 4 x 4)² / (h w C)), in levels of pixels; 0 is flat.

    >>> complexity(np.full((8, 8, 3), 7, np.uint8))
    0.0
    """
    height, width, channels = image.shape
    boxes = image.astype(np.float64).reshape(height // BOX, BOX, width // BOX, BOX, channels)
    energy = np.einsum("yaxbc,yaxbc->", boxes, boxes)
    sums = np.einsum("yaxbc->yxc", boxes)
    return float(np.sqrt(max(energy - np.einsum("yxc,yxc->", sums, sums) / BOX**2, 0.0) / image.size))


def rank(complexity: float, quantiles: Sequence[float]) -> float:
    """The share of `quantiles` below a complexity, plus half of those equal to it.

    >>> rank(5.0, (1.0, 5.0, 5.0, 9.0))
    0.5
    """
    return (sum(q < complexity for q in quantiles) + sum(q <= complexity for q in quantiles)) / (2 * len(quantiles))


def rate_by_complexity(mean: float, spread: float, rank: float) -> float:
    """mean + min(spread, mean, 1 − mean) (1 − 2 rank): the plainest images lose most."""
    return mean + min(spread, mean, 1 - mean) * (1 - 2 * rank)
