"""cuDNN's fused attention on packed rows: each image is a contiguous segment, given by start and length.

JAX's function for packed segments is private; it may change or vanish, and its kernels have had errors. Therefore this
backend is used only where `training.attention_choice.refusal` finds it correct on the device. cuDNN leaves padding
undefined, so inputs and outputs of padding are set to zero, for gradients as well.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..errors import ConfigError
from ..masks import SegmentMask, spans
from .per_device import shard_over_rows


class CuDNNMask(SegmentMask):
    """Start and length of the images of a row, in row order; −1 in unused entries."""

    starts: Int[Array, "*B slots_and_one"]
    lengths: Int[Array, "*B I"]
    real: Bool[Array, "*B T"]
    function: Any = eqx.field(static=True)

    def dot_product_attention(
        self, q: Float[Array, "*B H T K"], k: Float[Array, "*B H T K"], v: Float[Array, "*B H T K"], scale: float
    ) -> Float[Array, "*B H T K"]:
        def rows(q, k, v, starts, lengths, real):
            real = real[:, :, None, None]
            q, k, v = (jnp.where(real, x.swapaxes(1, 2), 0) for x in (q, k, v))
            out = self.function(q, k, v, None, None, lengths, lengths, starts, starts, scale=scale, qkv_layout="BTNH")
            return jnp.where(real, out, 0).swapaxes(1, 2)

        return shard_over_rows(rows, q, k, v, self.starts, self.lengths, self.real)


def cudnn_mask(segment_ids: Int[Array, "*B T"], slots: int) -> CuDNNMask:
    """Mask of a batch, whose images must be contiguous.   Raises ConfigError where JAX lacks the cuDNN function."""
    start, end = spans(segment_ids, slots)
    order = jnp.argsort(start, axis=-1)  # an empty slot starts at T, after all images
    start, end = (jnp.take_along_axis(edge, order, axis=-1) for edge in (start, end))
    used = end > 0
    starts = jnp.where(used, start, -1)
    starts = jnp.concatenate([starts, jnp.full_like(starts[..., :1], -1)], axis=-1)
    return CuDNNMask(starts, jnp.where(used, end - start, -1), segment_ids > 0, private())


def private() -> Any:
    """JAX's private cuDNN attention.   Raises ConfigError where this version of JAX has none."""
    try:
        from jax._src.cudnn.fused_attention_stablehlo import dot_product_attention
    except ImportError as error:
        raise ConfigError(
            f"this version of JAX has no packed cuDNN attention ({error}): choose another backend"
        ) from None
    return dot_product_attention
