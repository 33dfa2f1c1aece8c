"""Images to patches and back, for any number of axes: 2 for images, 3 for clips."""

from collections.abc import Sequence
from math import prod

import numpy as np
from jaxtyping import Float, Int, Num

from .rows import Tokens


def raster(grid: Sequence[int] | Int[np.ndarray, " A"]) -> Int[np.ndarray, "T A"]:
    """Grid coordinates of every patch in raster order (last axis fastest).   T = Π grid"""
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
    blocks = image.reshape(*(n for pair in zip(grid, patch_size) for n in pair), channels)
    order = (*range(0, 2 * axes, 2), *range(1, 2 * axes, 2), 2 * axes)  # grid axes, patch axes, channel
    patches = blocks.transpose(order).reshape(prod(grid), -1)
    return Tokens(patches, raster(grid), np.array(grid, np.int32))


def unpatchify(
    patches: Num[np.ndarray, "T P"], grid: Sequence[int] | Int[np.ndarray, " A"], patch_size: Sequence[int]
) -> Num[np.ndarray, "*space C"]:
    """Patches in raster order → image: the inverse of `patchify`."""
    axes = len(grid)
    blocks = patches.reshape(*grid, *patch_size, -1)
    order = [n for a in range(axes) for n in (a, axes + a)] + [2 * axes]
    return blocks.transpose(order).reshape(*(g * p for g, p in zip(grid, patch_size)), -1)


def normalize(
    patches: Num[np.ndarray, "T P"], mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.5,)
) -> Float[np.ndarray, "T P"]:
    """(x / 255 − mean) / std for each channel; floating-point patches are already normalized and returned as they are.

    A single number in `mean` or `std` applies to every channel.
    Choice of default: the range −1…1 of big_vision, in which padding (0) differs from black.
    """
    if np.issubdtype(patches.dtype, np.floating):
        return patches
    pixels = patches.reshape(len(patches), -1, max(len(mean), len(std))) / 255
    return ((pixels - np.array(mean)) / np.array(std)).reshape(patches.shape)
