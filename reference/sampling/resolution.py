"""Resolution of an image. "Resolution R" means area R² in pixels, for any aspect ratio.

A random number u in [−1, 1] is mapped to a range of sides or of areas.
Patch sizes are shared by all images (A,) or given per image (N, A).
"""

import numpy as np
from jaxtyping import Float, Int

PatchSize = tuple[int, ...] | Int[np.ndarray, "#N A"]
GROWTH = 1.25  # largest factor by which the tokens of an image grow to fill its row


def target_grid(
    sizes: Int[np.ndarray, "N A"], side: Float[np.ndarray, " N"], patch_size: PatchSize
) -> Int[np.ndarray, "N A"]:
    """Patches per side of an image of native `sizes` resized to area side², aspect kept, at least one.

    grid_a = max(1, ⌊R · size_a / √(h w) / patch_a⌋)   [NaViT, §2.2, §3.2]
    Choice: floor, the only rounding for which the two halves of the paper's table 2 agree. The image is resized to an
    integer number of patches, so each side changes by less than one patch.
    """
    scale = side / np.sqrt(sizes.prod(-1, dtype=float))
    # The small slack keeps a side of exactly n patches from being rounded down to n − 1.
    patches = np.floor(scale[:, None] * sizes / np.asarray(patch_size) + 1e-9)
    return np.clip(patches, 1, np.iinfo(np.int32).max).astype(np.int32)


def linear_in_side(u: Float[np.ndarray, " N"], lo: float, hi: float) -> Float[np.ndarray, " N"]:
    """R = lo + (hi − lo) (u + 1) / 2: the side is distributed as u, the paper's default.   [NaViT, app. A.1, fig. 7]"""
    return lo + (hi - lo) * (u + 1) / 2


def linear_in_area(u: Float[np.ndarray, " N"], lo: float, hi: float) -> Float[np.ndarray, " N"]:
    """R = √(lo² + (hi² − lo²) (u + 1) / 2): area and number of tokens are distributed as u.   [NaViT, fig. 7]"""
    return np.sqrt(linear_in_side(u, lo**2, hi**2))


def fit_tokens(sizes: Int[np.ndarray, "N A"], tokens: Int[np.ndarray, " N"]) -> Int[np.ndarray, "N A"]:
    """The grid at the largest scale, aspect kept, at which an image has at most `tokens` tokens.

    As the scale grows, axis a gains its k-th patch when the others have max(1, ⌊k size_b / size_a⌋); its length is the
    largest k ≥ 1 for which the product is within the budget. The search is exact, in integers. The patch size cancels,
    because images may be enlarged.   [NaViT, app. C: budgets of tokens]   Choice: the search, and floor.
    Raises ValueError where a budget is below one token.
    """
    if (tokens < 1).any():
        raise ValueError(f"an image has at least one token, got a budget of {tokens.min()}")
    sizes = sizes.astype(np.int64)
    return np.stack([_most_patches(sizes, tokens, axis) for axis in range(sizes.shape[1])], -1).astype(np.int32)


def _most_patches(sizes: Int[np.ndarray, "N A"], tokens: Int[np.ndarray, " N"], axis: int) -> Int[np.ndarray, " N"]:
    """Patches along one axis, by bisection: k fits if the grid at the scale of the k-th patch is within the budget."""
    fits, fails = np.ones(len(sizes), np.int64), tokens.astype(np.int64) + 1
    while (fails - fits > 1).any():
        k = (fits + fails) // 2
        grid = np.maximum(1, k[:, None] * sizes // sizes[:, axis, None])
        fit = grid.prod(-1, dtype=float) <= tokens  # in float, as extreme shapes would wrap around
        fits, fails = np.where(fit, k, fits), np.where(fit, fails, k)
    return fits


def never_enlarged(
    grids: Int[np.ndarray, "N A"], sizes: Int[np.ndarray, "N A"], patch_size: PatchSize
) -> Int[np.ndarray, "N A"]:
    """Grids limited to the native size of the image: min(grid_a, max(1, ⌊size_a / patch_a⌋)).

    Grids grow with the scale on every axis, so the result is the grid at the smaller of the two scales, aspect kept.
    """
    return np.minimum(grids, np.maximum(1, sizes // np.asarray(patch_size))).astype(np.int32)


def whole_blocks(grids: Int[np.ndarray, "N A"], merges: int) -> Int[np.ndarray, "N A"]:
    """Grids of whole blocks of 2^m patches a side: max(2^m, 2^m ⌊grid_a / 2^m⌋).

    For `target_grid` it is the grid at patches 2^m times as large, each cut into 2^m x 2^m.   Choice: floor, as there.
    """
    block = 2**merges
    return np.maximum(block, grids // block * block).astype(np.int32)


def grow(
    grids: Int[np.ndarray, "N A"], kept: Int[np.ndarray, " N"], free: Int[np.ndarray, " N"]
) -> tuple[Int[np.ndarray, "N A"], Int[np.ndarray, " N"]]:
    """Larger grids, and tokens kept, of images that use up to `free` more tokens of their row at an equal drop rate.

    A grid of s tokens, k kept, is scaled to s' ≤ ⌊s (k + free) / k⌋ tokens, ⌊k s' / s⌋ kept.
    Choice: the paper mentions this and does not use it ("could be made to fit exactly"); s' is at most 1.25 s.
    """
    tokens = grids.prod(-1).astype(np.int64)
    larger = fit_tokens(grids, np.minimum(tokens * (kept + free) // kept, (GROWTH * tokens).astype(np.int64)))
    return larger, (kept * larger.prod(-1).astype(np.int64) // tokens).astype(np.int32)
