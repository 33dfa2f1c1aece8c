"""The detail path: what the parts of a merged patch say is added to its token.   [APT, arXiv:2510.18091, eq. 2]

    token = E(reduced patch) + out(join(… join(E(parts))))

E is the embedding of patches, with its bias; `join` maps the vectors of a quad, in raster order, to one, the same at
every level; `out` is linear and zero at first, so that a trained model stays what it was. All of it is linear in the
pixels.

A row holds the parts in the format of the kernel, beside the patches: "T P" becomes "T P (1 + m)", m places of P
numbers a token. The m T_i places of an image, in the order of its tokens, hold the parts of its merged patches, one
patch after the other, the 4^s parts of a patch in Z-order. An image carries its own parts: packing does not know.
"""

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
from jaxtyping import Float, Int, Num

from .layers import linear
from .patches import normalize, patchify
from .resize import FLEXIVIT, Interpolation, adjoint_patches


def places(rate: float, scales: int) -> int:
    """Places for parts a token, m: enough for any image of which this share of the possible merges is made.

    With N cells, k merges and T = N − 3 k tokens, the merged blocks have at most min(4 k, N) cells, and
    k ≤ rate N (1 − 4^(1 − S)) / 3.
    """
    saved = rate * (1 - 4.0 ** (1 - scales))
    return ceil(min(4 * saved / 3, 1) / (1 - saved) - 1e-9)


def with_parts(
    patches: Num[np.ndarray, "T P"],
    image: Num[np.ndarray, "h w C"],
    patch: Sequence[int],
    levels: Int[np.ndarray, "rows columns"],
    base: Sequence[int],
    room: int,
    interpolation: Interpolation = FLEXIVIT,
) -> Num[np.ndarray, "T W"]:
    """Tokens of a partitioned image, with `room` places a token for the parts of its merged patches.

    Parts are patches of one cell, mapped to `base` where `patch` is another size.
    """
    cells = patchify(image, patch).patches
    cells = cells if tuple(patch) == tuple(base) else adjoint_patches(cells, base, patch, interpolation)
    parts, start = np.zeros((len(patches) * room, patches.shape[1]), patches.dtype), 0
    for block in blocks_of(cells.reshape(*levels.shape, -1), levels):
        parts[start : start + len(block)] = block
        start += len(block)
    return np.concatenate([patches, parts.reshape(len(patches), -1)], 1)


def blocks_of(
    cells: Num[np.ndarray, "rows columns P"], levels: Int[np.ndarray, "rows columns"]
) -> Iterator[Num[np.ndarray, "parts P"]]:
    """The parts of each merged block, by quads of quads; blocks in raster order of their first cells."""
    for (y, x), s in np.ndenumerate(levels):
        if s and y % 2**s == x % 2**s == 0:
            yield in_quads(cells[y : y + 2**s, x : x + 2**s])


def in_quads(block: Num[np.ndarray, "side side P"]) -> Num[np.ndarray, "parts P"]:
    """The cells of a block quarter by quarter, in raster order, and so within each quarter."""
    if len(block) == 1:
        return block[0]
    quarters = [part for half in np.split(block, 2, 0) for part in np.split(half, 2, 1)]
    return np.concatenate([in_quads(quarter) for quarter in quarters])


def detail(
    params: dict, patches: Num[np.ndarray, "T W"], levels: Num[np.ndarray, " T"], segment_ids: Int[np.ndarray, " T"]
) -> Float[np.ndarray, "T D"]:
    """What is added to the token of each merged patch; zeros for the others."""
    embedding, (join, out) = params["patch_embedding"], (params["detail"][name] for name in ("join", "out"))
    size, found = len(embedding["w"]), np.zeros((len(patches), len(embedding["b"])))
    for slot in np.unique(segment_ids):
        mine = np.flatnonzero(segment_ids == slot)
        parts = patches[mine, size:].reshape(-1, size)
        vectors, start = linear(embedding, normalize(parts, params["mean"], params["std"])), 0
        for t in mine[levels[mine] > 0]:
            end = start + 4 ** int(levels[t])
            y, start = vectors[start:end], end
            while len(y) > 1:
                y = linear(join, y.reshape(len(y) // 4, -1))
            found[t] = linear(out, y)[0]
    return found
