"""Pre-norm transformer blocks, stacked: every leaf of `blocks` has a leading axis L, run by one scan."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .attention import Attention
from .config import ModelConfig
from .layers import AbstractNorm, GatedMlp, Mlp, expand, make_mlp, make_norm
from .local import BlockMasks
from .masks import SegmentMask


class Block(eqx.Module):
    """x + attention(norm x), then x + mlp(norm x).   [ViT, eq. 2-3]

    Each residual is multiplied by LayerScale and by `gate` before it is added; None stands for 1.
    """

    attention_norm: AbstractNorm
    attention: Attention
    attention_scale: Float[Array, "*L D"] | None
    mlp_norm: AbstractNorm
    mlp: Mlp | GatedMlp
    mlp_scale: Float[Array, "*L D"] | None

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        attention, mlp = jr.split(key)
        gain = jnp.full(config.width, config.layer_scale) if config.layer_scale else None
        self.attention_norm = make_norm(config.norm, config.width, config.biases, config.eps)
        self.attention = Attention(config, key=attention)
        self.attention_scale = gain
        self.mlp_norm = make_norm(config.norm, config.width, config.biases, config.eps)
        self.mlp = make_mlp(config, key=mlp)
        self.mlp_scale = gain

    def __call__(
        self,
        x: Float[Array, "*B T D"],
        mask: Bool[Array, "*B T T"] | SegmentMask | None,
        angles: Float[Array, "*B T half"] | None = None,
        gate: Float[Array, "*B T"] | None = None,
    ) -> Float[Array, "*B T D"]:
        y = self.attention_norm(x)
        x = add(x, self.attention(y, y, mask, angles), self.attention_scale, gate)
        return add(x, self.mlp(self.mlp_norm(x)), self.mlp_scale, gate)


def add(
    x: Float[Array, "*B T D"],
    residual: Float[Array, "*B T D"],
    scale: Float[Array, " D"] | None,
    gate: Float[Array, "*B T"] | None,
) -> Float[Array, "*B T D"]:
    """x + gate · scale · residual; None is 1."""
    residual = residual if scale is None else residual * expand(scale, residual)
    return x + (residual if gate is None else residual * gate[..., None].astype(x.dtype))


class Encoder(eqx.Module):
    """All blocks in order, then the final norm.   [ViT, eq. 2-4]"""

    blocks: Block
    norm: AbstractNorm | None
    depth: int = eqx.field(static=True)
    unroll: int = eqx.field(static=True)
    remat: bool = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        keys = jr.split(key, config.depth)
        self.blocks = eqx.filter_vmap(lambda key: Block(config, key=key))(keys)
        norm = make_norm(config.norm, config.width, config.biases, config.eps)
        self.norm = norm if config.final_norm else None
        self.depth = config.depth
        self.unroll = config.unroll
        self.remat = config.remat

    def __call__(
        self,
        x: Float[Array, "*B T D"],
        mask: Bool[Array, "*B T T"] | SegmentMask | BlockMasks | None,
        angles: Float[Array, "*B T half"] | None = None,
        gates: Float[Array, "L *B T"] | None = None,
    ) -> Float[Array, "*B T D"]:
        x = self.run(x, mask, angles, gates)[0]
        return x if self.norm is None else self.norm(x)

    def hidden_states(
        self,
        x: Float[Array, "*B T D"],
        mask: Bool[Array, "*B T T"] | SegmentMask | BlockMasks | None,
        angles: Float[Array, "*B T half"] | None,
    ) -> Float[Array, "states *B T D"]:
        """Tokens before the first block and after each block; `norm` of the last ones is the output of the encoder."""
        _, after = self.run(x, mask, angles, None, keep=True)
        return jnp.concatenate([x[None], after])

    def run(
        self,
        x: Float[Array, "*B T D"],
        mask: Bool[Array, "*B T T"] | SegmentMask | BlockMasks | None,
        angles: Float[Array, "*B T half"] | None,
        gates: Float[Array, "L *B T"] | None,
        keep: bool = False,
    ) -> tuple[Float[Array, "*B T D"], Any]:
        """Tokens after all blocks; and with `keep` the tokens after each block, "L *B T D"."""
        stacked, static = eqx.partition(self.blocks, eqx.is_array)
        which = jnp.asarray(mask.which) if isinstance(mask, BlockMasks) else None

        def step(x, layer):
            arrays, gate, which = layer
            own = mask.of(which) if isinstance(mask, BlockMasks) else mask
            x = eqx.combine(arrays, static)(x, own, angles, gate)
            return x, x if keep else None

        step = jax.checkpoint(step) if self.remat else step
        return jax.lax.scan(step, x, (stacked, gates, which), unroll=self.unroll)


def skip_rates(rate: float, depth: int) -> Float[np.ndarray, " L"]:
    """Probability that an image skips block l: linear, from 0 at the first block to `rate` at the last.

    [Stochastic depth, arXiv:1603.09382]
    """
    return np.linspace(0.0, rate, depth)


def sample_gates(
    key: PRNGKeyArray, rates: Float[np.ndarray, " L"], image_ids: Int[Array, "*B I"]
) -> Float[Array, "L *B I"]:
    """Factors of residuals: 0 where an image skips a block, otherwise 1/(1 − rate), so that the mean is 1.

    The key of each image is folded from its image id, so that neither packing nor the number of devices changes them.
    """

    def active(image_id):
        return jr.uniform(jr.fold_in(key, image_id), (len(rates),), jnp.float32) >= jnp.asarray(rates, jnp.float32)

    gates = jax.vmap(active)(image_ids.reshape(-1)).astype(jnp.float32) / jnp.asarray(1 - rates, jnp.float32)[None]
    return gates.T.reshape(len(rates), *image_ids.shape)


def token_gates(gates: Float[Array, "L *B I"], segment_ids: Int[Array, "*B T"]) -> Float[Array, "L *B T"]:
    """Gates per image → gates per token."""
    slot = jnp.maximum(segment_ids, 1) - 1
    return jnp.take_along_axis(gates, slot[None], axis=-1)
