"""Splash attention, JAX's TPU kernel: blocks beyond a static window are skipped.

The window is set at compile time from the longest image; segment ids mask within it. All padding shares one segment id
and attends to itself, because a fully masked row of logits would divide by 0; its outputs are set to 0 afterwards.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jaxtyping import Array, Bool, Float, Int

from ..layers import full
from ..masks import SegmentMask, spans
from .per_device import padded, shard_over_rows


class SplashMask(SegmentMask):
    """Segment ids, and the tokens whose image fits in the window (`fits`)."""

    segment_ids: Int[Array, "*B T"]
    fits: Bool[Array, "*B T"]
    longest: int = eqx.field(static=True)
    block: int = eqx.field(static=True)
    interpret: bool = eqx.field(static=True)

    def dot_product_attention(
        self, q: Float[Array, "*B H T K"], k: Float[Array, "*B H T K"], v: Float[Array, "*B H T K"], scale: float
    ) -> Float[Array, "*B H T K"]:
        heads, length = q.shape[-3:-1]
        places = -(-length // self.block) * self.block
        reach = (self.longest or places) - 1
        mask = masks.LocalMask((places, places), window_size=(reach, reach), offset=0)
        blocks = dict.fromkeys(("block_q", "block_kv", "block_q_dkv", "block_kv_dkv"), self.block)
        kernel = splash.make_splash_mha(
            mask=masks.MultiHeadMask([mask] * heads),
            block_sizes=splash.BlockSizes(**blocks, use_fused_bwd_kernel=True),
            head_shards=1,
            q_seq_shards=1,
            interpret=self.interpret,
        )

        def rows(q, k, v, ids, fits):
            q, k, v = (padded(x, {2: places}) for x in ((full(q) * scale).astype(q.dtype), k, v))
            padded_ids = padded(ids, {1: places})
            out: Any = jax.vmap(kernel)(q, k, v, splash.SegmentIds(q=padded_ids, kv=padded_ids))
            out = jnp.where(fits[:, None, :, None], out[:, :, :length], jnp.nan)
            return jnp.where((ids > 0)[:, None, :, None], out, 0)

        return shard_over_rows(rows, q, k, v, self.segment_ids, self.fits)


def splash_mask(
    segment_ids: Int[Array, "*B T"], slots: int, longest: int, block: int, interpret: bool | None = None
) -> SplashMask:
    """Mask of a batch. An image that spans more than `longest` tokens gives NaN, never a wrong value.

    `interpret` runs the kernel as plain JAX; by default on a CPU.
    """
    start, end = spans(segment_ids, slots)
    slot = jnp.maximum(segment_ids, 1) - 1
    span = jnp.take_along_axis(end - start, slot, axis=-1)
    fits = span <= (longest or segment_ids.shape[-1])
    interpret = jax.default_backend() == "cpu" if interpret is None else interpret
    return SplashMask(segment_ids, fits, longest, block, interpret)
