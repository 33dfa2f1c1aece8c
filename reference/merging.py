"""Blocks of neighboring tokens merged to one: what language models read of an image.

[Qwen2-VL, arXiv:2409.12191; taps: DeepStack, arXiv:2406.04334]
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from .layers import gelu_exact, linear, norm


def corners(coords: Int[np.ndarray, "T 2"], segment_ids: Int[np.ndarray, " T"], block: int) -> Bool[np.ndarray, " T"]:
    """The first token of each block of `block` x `block` tokens, which stands for it; blocks begin at the top left."""
    return (coords % block == 0).all(-1) & (segment_ids > 0)


def block_tokens(
    x: Float[np.ndarray, "T D"], coords: Int[np.ndarray, "T 2"], segment_ids: Int[np.ndarray, " T"], block: int
) -> Float[np.ndarray, "T N"]:
    """The block² tokens of a block, row by row, at its first token; zeros elsewhere and for tokens that are not there.

    Wherever the tokens of an image stand in the row.
    """
    places = {(slot, y, x): t for t, (slot, (y, x)) in enumerate(zip(segment_ids.tolist(), coords.tolist()))}
    found = np.zeros((len(x), block, block, x.shape[-1]))
    for t in np.flatnonzero(corners(coords, segment_ids, block)):
        for dy, dx in np.ndindex(block, block):
            place = places.get((segment_ids[t], coords[t, 0] + dy, coords[t, 1] + dx))
            if place is not None:
                found[t, dy, dx] = x[place]
    return found.reshape(len(x), -1)


def merger(
    params: dict, x: Float[np.ndarray, "T D"], coords: Int[np.ndarray, "T 2"], segment_ids: Int[np.ndarray, " T"]
) -> Float[np.ndarray, "T E"]:
    """gelu(y w₁ + b₁) w₂ + b₂ with y the tokens of a block, at its first token; zeros elsewhere.

    The norm is that of each token, or, with `whole`, of all of the block.
    """
    y = block_tokens(x if params["whole"] else norm(params["norm"], x), coords, segment_ids, params["block"])
    y = norm(params["norm"], y) if params["whole"] else y
    merged = linear(params["shrink"], gelu_exact(linear(params["grow"], y)))
    return np.where(corners(coords, segment_ids, params["block"])[:, None], merged, 0.0)
