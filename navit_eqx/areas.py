"""Tokens of merged patches that count as often as the patches they stand for: docs/adaptive.md.

[ToMe, arXiv:2210.09461, §3, proportional attention] A key of level s counts 4^s times in the softmax: log 4^s is added
to its logits. Patches with equal vectors may then be merged or not: outputs are the same.
"""

from math import log
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float, Num

from .attention import attend
from .masks import SegmentMask


class AreaMask(SegmentMask):
    """A mask, and the level of each key.

    The logits come from a further channel, so that every backend computes them:
    [q, 1] · [k, s log 4 / scale] · scale = q · k · scale + log 4^s.
    """

    mask: Any
    """`Bool "*B T S"`, or a `SegmentMask`."""
    levels: Num[Array, "*B S"]

    def dot_product_attention(
        self, q: Float[Array, "*B H T K"], k: Float[Array, "*B H S K"], v: Float[Array, "*B H S K"], scale: float
    ) -> Float[Array, "*B H T K"]:
        weight = self.levels.astype(k.dtype)[..., None, :, None] * (log(4) / scale)
        wider = lambda x, channel: jnp.concatenate([x, jnp.broadcast_to(channel, (*x.shape[:-1], 1))], -1)
        q, k, v = wider(q, jnp.ones_like(q[..., :1])), wider(k, weight), wider(v, jnp.zeros_like(v[..., :1]))
        return attend(q, k, v, self.mask, scale)[..., :-1]


def weighted(mask: Any, levels: Num[Array, "*B S"] | None) -> Any:
    """The mask with keys of these levels; where there are none, the mask."""
    return mask if levels is None else AreaMask(mask, levels)


def pairs(mask: Bool[Array, "*B T S"] | AreaMask) -> Bool[Array, "*B T S"]:
    """Which query may attend to which key, whatever the key counts."""
    return mask.mask if isinstance(mask, AreaMask) else mask


def key_weights(mask: Bool[Array, "*B T S"] | AreaMask, dtype: DTypeLike) -> Float[Array, "*B T S"]:
    """How often a key counts for a query: 4^level times, or once; 0 where it is masked."""
    weights = pairs(mask).astype(dtype)
    return weights * jnp.exp2(2 * mask.levels.astype(dtype))[..., None, :] if isinstance(mask, AreaMask) else weights
