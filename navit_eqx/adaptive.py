"""Patches of several sizes within one image: flat regions in large patches, detail in small ones.

[APT, arXiv:2510.18091; Quadformer, arXiv:2304.00287]

The host cuts images and maps every block to the shape of the kernel; the device adds a vector for the level of a block.
Coords of a token: (level, y, x), the center of its block in cells, minus ½; grid: (levels, rows, columns).
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from . import config
from .detail import places, with_parts
from .layers import expand
from .preprocessing import Merge, MergeByThreshold
from .resize import FLEXIVIT, Interpolation, pi_matrix

Levels = Int[np.ndarray, "rows columns"]
Scores = Sequence[Float[np.ndarray, "_ _"]]


def most_quads(grids: Int[np.ndarray, "*N 2"], scales: int) -> Int[np.ndarray, "*N"]:
    """Quads that can be merged, each of which saves 3 tokens."""
    count, grids = np.zeros(grids.shape[:-1], int), np.array(grids)
    for _ in range(1, scales):
        grids = grids // 2
        count += grids[..., 0] * grids[..., 1]
    return count


def pooled(values: Num[np.ndarray, "h w *C"]) -> Num[np.ndarray, "rows columns *C"]:
    """Sums of 2 x 2 neighbors; an odd row or column at the end is cut off."""
    even = values[: len(values) // 2 * 2, : values.shape[1] // 2 * 2]
    return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]


def residual_scores(image: Num[np.ndarray, "h w C"], patch: Sequence[int], scales: int) -> Scores:
    """Squared error of each block when it is reduced to one patch, from one pyramid of box sums."""
    boxes = image.astype(np.float64)
    energy = in_cells((boxes * boxes).sum(-1), patch)
    scores = []
    for s in range(scales):
        if s:
            boxes, energy = pooled(boxes), pooled(energy)
        scores.append(energy - in_cells((boxes * boxes).sum(-1), patch) / 4**s)
    return scores


def in_cells(values: Float[np.ndarray, "h w"], patch: Sequence[int]) -> Float[np.ndarray, "rows columns"]:
    """Sums over whole patches."""
    rows, columns = len(values) // patch[0], values.shape[1] // patch[1]
    whole = values[: rows * patch[0], : columns * patch[1]]
    return np.einsum("ykxl->yx", whole.reshape(rows, patch[0], columns, patch[1]))


def cut_by_budget(scores: Scores, quads: int) -> Levels:
    """Merge `quads` quads, always the one that adds least to the score.

    Without a queue: a quad of level s waits for its four parts, so in the order of costs it comes after the last of
    them, at once where it costs less.   Raises ValueError where there are fewer quads.
    """
    levels = np.zeros(scores[0].shape, int)
    costs = [coarse - pooled(fine) for fine, coarse in zip(scores, scores[1:])]
    level, place, cost = (np.concatenate(part) for part in zip(*(_listed(s, c) for s, c in enumerate(costs, 1))))
    if not 0 <= quads <= len(cost):
        raise ValueError(f"{quads} quads cannot be merged in a grid of {levels.shape}: it has {len(cost)}")
    rank = np.argsort(np.lexsort((place[:, 1], place[:, 0], level, cost)))
    turn, ends = [], np.cumsum([c.size for c in costs])
    for s, (own, end) in enumerate(zip(costs, ends)):
        mine = rank[end - own.size : end].reshape(own.shape)
        turn.append(np.maximum(mine, _last(turn[-1])) if s else mine)
    order = np.lexsort((level, np.concatenate([t.ravel() for t in turn])))
    for n in order[:quads]:
        s, (y, x) = level[n], place[n] << level[n]
        levels[y : y + 2**s, x : x + 2**s] = s
    return levels


def entropy_scores(image: Num[np.ndarray, "h w C"], patch: Sequence[int], scales: int, bins: int = 512) -> Scores:
    """Entropy of the gray levels of each block, in bits; pixels in 0 … 255.   [APT, eq. 1]"""
    gray = image @ np.array([0.2989, 0.587, 0.114]) if image.shape[-1] == 3 else image.mean(-1)
    level = np.clip(gray * bins / 256, 0, bins - 1).astype(np.int64)
    scores = []
    for s in range(scales):
        height, width = patch[0] << s, patch[1] << s
        rows, columns = len(level) // height, level.shape[1] // width
        blocks = level[: rows * height, : columns * width].reshape(rows, height, columns, width).swapaxes(1, 2)
        found = [_bits(block) for block in blocks.reshape(rows * columns, height * width)]
        scores.append(np.array(found, np.float64).reshape(rows, columns))
    return scores


def _bits(values: Int[np.ndarray, " n"]) -> float:
    """log2 n − Σ c log2 c / n, with c the numbers of equal values among n."""
    _, counts = np.unique(values, return_counts=True)
    return float(np.log2(values.size) - (counts * np.log2(counts)).sum() / values.size)


def cut_by_threshold(scores: Scores, thresholds: Sequence[float]) -> Levels:
    """Blocks with a score below the threshold of their level 1 … S - 1, the coarsest first.   [APT, §3.1]"""
    levels = np.zeros(scores[0].shape, int)
    for s, threshold in enumerate(thresholds, 1):  # a coarser block replaces what lies in it
        rows, columns = scores[s].shape
        low = (scores[s] < threshold).repeat(1 << s, 0).repeat(1 << s, 1)
        levels[: rows << s, : columns << s][low] = s
    return levels


def levels_by_threshold(pixels: Num[np.ndarray, "h w C"], patch: Sequence[int], merge: MergeByThreshold) -> Levels:
    """The partition of a resized image by thresholds."""
    scores = entropy_scores(pixels, patch, merge.scales)
    return cut_by_threshold(scores, merge.thresholds)


def quads_in(levels: Levels) -> int:
    """The quads that are merged in a partition; each saves 3 tokens."""
    return sum(int((levels >= s).sum()) >> 2 * s for s in range(1, int(levels.max()) + 1))


def _listed(s: int, cost: Float[np.ndarray, "rows columns"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels, places and costs of the quads of level s, in raster order."""
    return np.full(cost.size, s), np.indices(cost.shape).reshape(2, -1).T, cost.ravel()


def _last(turn: Int[np.ndarray, "h w"]) -> Int[np.ndarray, "rows columns"]:
    """The last of the turns of four parts."""
    even = turn[: len(turn) // 2 * 2, : turn.shape[1] // 2 * 2]
    return np.maximum.reduce([even[::2, ::2], even[1::2, ::2], even[::2, 1::2], even[1::2, 1::2]])


def merged(
    image: Num[np.ndarray, "h w C"],
    patch: Sequence[int],
    levels: Levels,
    base: Sequence[int],
    rule: str = "pi",
    interpolation: Interpolation = FLEXIVIT,
) -> tuple[Float[np.ndarray, "T P"], Float[np.ndarray, "T 3"], Float[np.ndarray, " 3"]]:
    """Patches, coords and grid of a partitioned image, block by block in raster order, for a kernel of shape `base`."""
    patches, coords, free = [], [], np.ones(levels.shape, bool)
    for y, x in np.ndindex(levels.shape):
        if not free[y, x]:
            continue
        s = int(levels[y, x])
        free[y : y + 2**s, x : x + 2**s] = False
        height, width = patch[0] << s, patch[1] << s
        block = image[y * patch[0] : y * patch[0] + height, x * patch[1] : x * patch[1] + width].astype(float)
        if s and rule != "pi":
            block = reduced(block, s, rule)
        if block.shape[:2] != tuple(base):
            ky, kx = (pi_matrix(old, new, interpolation) for old, new in zip(base, block.shape))
            block = np.einsum("abc,ai,bj->ijc", block, ky, kx, optimize=True)
        patches.append(block.ravel())
        coords.append((s, *(n + 2**s / 2 - 0.5 for n in (y, x))))
    grid = np.array([1 + levels.max(), *levels.shape], np.float32)
    return np.stack(patches), np.array(coords, np.float32), grid


def reduced(block: Float[np.ndarray, "h w C"], s: int, rule: str) -> Float[np.ndarray, "rows columns C"]:
    """A block of level s, reduced to one patch by means of boxes (`area`) or of their middle 2 x 2 pixels (`apt`)."""
    if rule == "apt":
        keep = np.isin(np.arange(1 << s), (2 ** (s - 1) - 1, 2 ** (s - 1)))
        rows, columns = np.tile(keep, len(block) >> s), np.tile(keep, block.shape[1] >> s)
        return pooled(block[rows][:, columns]) / 4
    for _ in range(s):
        block = pooled(block) / 4
    return block


def cut(
    pixels: Num[np.ndarray, "h w C"], patch: tuple[int, int], merge: Merge | MergeByThreshold, quads: int
) -> tuple[Num[np.ndarray, "T P"], Float[np.ndarray, "T 3"], Float[np.ndarray, " 3"]]:
    """Patches, coords and grid of a resized image, as rows store them: bytes, or float16 mapped to the kernel.

    Raises ValueError where the rule maps patches and the kernel is not known.
    """
    if isinstance(merge, MergeByThreshold):
        levels = levels_by_threshold(pixels, patch, merge)
    else:
        levels = cut_by_budget(residual_scores(pixels, patch, merge.scales), quads)
    room, base, how = room_of(merge), patch, FLEXIVIT
    if merge.rule != "pi":
        patches, coords, grid = merged(pixels, patch, levels, patch, merge.rule)
        stored = (np.rint(patches) if pixels.dtype == np.uint8 else patches).astype(pixels.dtype)
    else:
        if (kernel := merge.kernel) is None:
            raise ValueError("blocks are mapped to the kernel of a model: pack by navit.pack(images, model)")
        if pixels.dtype == np.uint8:
            pixels = (pixels / 255 - np.array(kernel.mean)) / np.array(kernel.std)
        base, how = kernel.patch, kernel.interpolation
        patches, coords, grid = merged(pixels, patch, levels, base, "pi", how)
        stored = patches.astype(np.float16)
    return (with_parts(stored, pixels, patch, levels, base, room, how) if room else stored), coords, grid


def room_of(merge: Merge | MergeByThreshold) -> int:
    """Places for parts a token; 0 for a model that reads none."""
    return places(merge.highest, merge.scales) if merge.kernel and merge.kernel.detail else 0


class LevelEmbedding(eqx.Module):
    """A vector for each level above 0; zero at first, so that a model of equal patches stays what it was.   Choice."""

    vectors: Float[Array, "levels D"]

    def __init__(self, config: config.ModelConfig):
        assert config.levels is not None
        self.vectors = jnp.zeros((config.levels.scales - 1, config.width))

    def __call__(self, coords: Num[Array, "*B T A"]) -> Float[Array, "*B T D"]:
        level = coords[..., :1].astype(float)
        which = level == expand(jnp.arange(1, 1 + len(self.vectors), dtype=level.dtype), level)
        return which.astype(self.vectors.dtype) @ self.vectors


def make_levels(config: config.ModelConfig) -> LevelEmbedding | None:
    """Initialize the vectors of levels; None for a model without them."""
    return LevelEmbedding(config) if config.levels else None
