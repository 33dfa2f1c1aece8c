"""Images as tokens.   Written for A spatial axes: A = 2 cuts images, A = 3 cuts video into tubelets."""

from collections.abc import Sequence
from math import prod

import numpy as np
from jaxtyping import Float, Int, Num

from .rows import Tokens


def raster(grid: Sequence[int] | Int[np.ndarray, " A"]) -> Int[np.ndarray, "T A"]:
    """Place of every patch in the grid, last axis fastest.   T = Π grid"""
    return np.indices(tuple(grid)).reshape(len(grid), -1).T.astype(np.int32)


def patchify(image: Num[np.ndarray, "*space C"], patch_size: Sequence[int]) -> Tokens:
    """Cut an image into patches, each flattened as (row, column, channel).   [ViT, §3.1]

    Raises ValueError where a side is not a multiple of the patch.
    """
    *sides, channels = image.shape
    if len(sides) != len(patch_size) or any(s % p for s, p in zip(sides, patch_size)):
        raise ValueError(
            f"an image of {tuple(sides)} pixels cannot be cut into patches of {tuple(patch_size)}: "
            "resize it so that every side is a multiple of the patch"
        )
    grid = [s // p for s, p in zip(sides, patch_size)]
    axes = len(grid)
    cut = image.reshape(*(n for pair in zip(grid, patch_size) for n in pair), channels)
    order = (*range(0, 2 * axes, 2), *range(1, 2 * axes, 2), 2 * axes)  # grid axes, patch axes, channel
    patches = cut.transpose(order).reshape(prod(grid), -1)
    return Tokens(patches, raster(grid), np.array(grid, np.int32))


def unpatchify(
    patches: Num[np.ndarray, "T P"], grid: Sequence[int] | Int[np.ndarray, " A"], patch_size: Sequence[int]
) -> Num[np.ndarray, "*space C"]:
    """The image that `patchify` cut; patches in raster order."""
    axes = len(grid)
    cut = patches.reshape(*grid, *patch_size, -1)
    order = [n for a in range(axes) for n in (a, axes + a)] + [2 * axes]
    return cut.transpose(order).reshape(*(g * p for g, p in zip(grid, patch_size)), -1)


def normalize(
    patches: Num[np.ndarray, "T P"], mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.5,)
) -> Float[np.ndarray, "T P"]:
    """(x / 255 − mean) / std, channel by channel; floating-point patches are taken as already normalized.

    One number of `mean` and `std` stands for every channel.
    Choice of default: −1…1, the range of big_vision, so that padding (0) is not mistaken for black.
    """
    if np.issubdtype(patches.dtype, np.floating):
        return patches
    pixels = patches.reshape(len(patches), -1, max(len(mean), len(std))) / 255
    return ((pixels - np.array(mean)) / np.array(std)).reshape(patches.shape)
