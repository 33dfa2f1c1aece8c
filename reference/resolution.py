"""The size at which an image is seen. "Resolution R" means area R², whatever the aspect ratio."""

import numpy as np
from jaxtyping import Float, Int


def target_grid(
    sizes: Int[np.ndarray, "N A"], side: Float[np.ndarray, " N"], patch_size: int
) -> Int[np.ndarray, "N A"]:
    """Patches per side of an image of native `sizes` when seen at area side², aspect kept, at least one.

    grid_a = max(1, ⌊R · size_a / √(h w) / P⌋)   [NaViT, §2.1, §3.1 "variable resolutions"]
    Choice: floor, the only rounding under which the two halves of the paper's table 2 agree; the image is
    resized to whole patches, so its aspect ratio moves by less than one patch per side.
    """
    scale = side / np.sqrt(sizes.prod(-1, dtype=float))
    # The small slack keeps a side of exactly n patches from falling to n − 1 by rounding.
    return np.maximum(1, np.floor(scale[:, None] * sizes / patch_size + 1e-9)).astype(np.int32)


def sample_side(rng: np.random.Generator, lo: float, hi: float, count: int) -> Float[np.ndarray, " N"]:
    """R ~ U(lo, hi), the paper's default: the side is drawn, not the area.   [NaViT, §3.1, app. B.1]"""
    return rng.uniform(lo, hi, count)
