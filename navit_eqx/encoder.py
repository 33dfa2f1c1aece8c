"""Pre-norm transformer blocks, stacked: every leaf of `blocks` has a leading axis L, run by one scan."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .attention import Attention
from .config import ModelConfig
from .layers import AbstractNorm, Mlp, make_norm
from .masks import Among


class Block(eqx.Module):
    """x + attention(norm x), then x + mlp(norm x).   [ViT, eq. 2-3]

    What is added is first multiplied by LayerScale and by `gate`, where they are used.
    """

    attention_norm: AbstractNorm
    attention: Attention
    attention_scale: Float[Array, "*L D"] | None
    mlp_norm: AbstractNorm
    mlp: Mlp
    mlp_scale: Float[Array, "*L D"] | None

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        attention, mlp = jr.split(key)
        gain = jnp.full(config.width, config.layer_scale) if config.layer_scale else None
        self.attention_norm = make_norm(config.norm, config.width, config.biases)
        self.attention = Attention(config, key=attention)
        self.attention_scale = gain
        self.mlp_norm = make_norm(config.norm, config.width, config.biases)
        self.mlp = Mlp(config, key=mlp)
        self.mlp_scale = gain

    def __call__(
        self,
        x: Float[Array, "*B T D"],
        mask: Bool[Array, "*B T T"] | Among | None,
        angles: Float[Array, "*B T half"] | None = None,
        gate: Float[Array, "*B T"] | None = None,
    ) -> Float[Array, "*B T D"]:
        y = self.attention_norm(x)
        x = add(x, self.attention(y, y, mask, angles), self.attention_scale, gate)
        return add(x, self.mlp(self.mlp_norm(x)), self.mlp_scale, gate)


def add(
    x: Float[Array, "*B T D"],
    branch: Float[Array, "*B T D"],
    scale: Float[Array, " D"] | None,
    gate: Float[Array, "*B T"] | None,
) -> Float[Array, "*B T D"]:
    """x + gate · scale · branch; None is 1."""
    branch = branch if scale is None else branch * scale.astype(x.dtype)
    return x + (branch if gate is None else branch * gate[..., None].astype(x.dtype))


class Encoder(eqx.Module):
    """All blocks in turn and a last norm.   [ViT, eq. 2-4]"""

    blocks: Block
    norm: AbstractNorm
    depth: int = eqx.field(static=True)
    unroll: int = eqx.field(static=True)
    remat: bool = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        keys = jr.split(key, config.depth)
        self.blocks = eqx.filter_vmap(lambda key: Block(config, key=key))(keys)
        self.norm = make_norm(config.norm, config.width, config.biases)
        self.depth = config.depth
        self.unroll = config.unroll
        self.remat = config.remat

    def __call__(
        self,
        x: Float[Array, "*B T D"],
        mask: Bool[Array, "*B T T"] | Among | None,
        angles: Float[Array, "*B T half"] | None = None,
        gates: Float[Array, "L *B T"] | None = None,
    ) -> Float[Array, "*B T D"]:
        return self.norm(self.run(x, mask, angles, gates)[0])

    def layers(
        self,
        x: Float[Array, "*B T D"],
        mask: Bool[Array, "*B T T"] | Among | None,
        angles: Float[Array, "*B T half"] | None,
    ) -> Float[Array, "layers *B T D"]:
        """Tokens before the first block and after each; the last ones, through `norm`, are what the encoder gives."""
        _, after = self.run(x, mask, angles, None, keep=True)
        return jnp.concatenate([x[None], after])

    def run(
        self,
        x: Float[Array, "*B T D"],
        mask: Bool[Array, "*B T T"] | Among | None,
        angles: Float[Array, "*B T half"] | None,
        gates: Float[Array, "L *B T"] | None,
        keep: bool = False,
    ) -> tuple[Float[Array, "*B T D"], Any]:
        """Tokens after all blocks; and those after each block, to `keep` where asked for."""
        stacked, static = eqx.partition(self.blocks, eqx.is_array)

        def step(x, layer):
            arrays, gate = layer
            x = eqx.combine(arrays, static)(x, mask, angles, gate)
            return x, x if keep else None

        step = jax.checkpoint(step) if self.remat else step
        return jax.lax.scan(step, x, (stacked, gates), unroll=self.unroll)
