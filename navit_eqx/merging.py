"""Blocks of neighboring tokens merged to one: what language models read of an image.

[Qwen2-VL, arXiv:2409.12191; taps: DeepStack, arXiv:2406.04334]
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

from .layers import AbstractNorm, Linear, expand, make_norm


def corners(coords: Num[Array, "*B T 2"], segment_ids: Int[Array, "*B T"], block: int) -> Bool[Array, "*B T"]:
    """The first token of each block of `block` x `block` tokens, which stands for it; blocks begin at the top left."""
    return (coords % block == 0).all(-1) & (segment_ids > 0)


def block_tokens(
    x: Float[Array, "*B T D"], coords: Num[Array, "*B T 2"], segment_ids: Int[Array, "*B T"], block: int
) -> Float[Array, "*B T N"]:
    """The block² tokens of a block, row by row, at its first token; zeros elsewhere and for tokens that are not there.

    Wherever the tokens of an image stand in the row: each is found by its coordinates.
    """
    first = corners(coords, segment_ids, block)
    same = (segment_ids[..., :, None] == segment_ids[..., None, :]) & first[..., :, None]
    parts = []
    for offset in np.ndindex(block, block):
        wanted = coords + expand(jnp.asarray(offset), coords)
        match = same & (wanted[..., :, None, :] == coords[..., None, :, :]).all(-1)
        token = jnp.take_along_axis(x, match.argmax(-1)[..., None], axis=-2)
        parts.append(jnp.where(match.any(-1)[..., None], token, 0))
    return jnp.concatenate(parts, axis=-1)


class Merger(eqx.Module):
    """gelu(y w₁ + b₁) w₂ + b₂ with y the tokens of a block, at its first token; zeros elsewhere.

    The norm is that of each token, or, with `whole`, of all of the block.
    """

    norm: AbstractNorm | None
    grow: Linear
    shrink: Linear
    block: int = eqx.field(static=True)
    whole: bool = eqx.field(static=True)

    def __init__(
        self, norm: str, eps: float, width: int, hidden: int, size: int, block: int, whole: bool, *, key: PRNGKeyArray
    ):
        grow, shrink = jr.split(key)
        inputs = block**2 * width
        self.norm = None if norm == "none" else make_norm(norm, inputs if whole else width, True, eps)
        self.grow = Linear(inputs, hidden, key=grow)
        self.shrink = Linear(hidden, size, key=shrink)
        self.block = block
        self.whole = whole

    def __call__(
        self, x: Float[Array, "*B T D"], coords: Num[Array, "*B T 2"], segment_ids: Int[Array, "*B T"]
    ) -> Float[Array, "*B T E"]:
        norm = (lambda y: y) if self.norm is None else self.norm
        y = block_tokens(x if self.whole else norm(x), coords, segment_ids, self.block)
        merged = self.shrink(jax.nn.gelu(self.grow(norm(y) if self.whole else y), approximate=False))
        return jnp.where(corners(coords, segment_ids, self.block)[..., None], merged, 0)
