"""Pre-norm transformer blocks, stacked: every leaf of `blocks` has a leading axis L, run by one scan."""

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .attention import Attention
from .config import ModelConfig
from .layers import LayerNorm, Mlp


class Block(eqx.Module):
    """x + attention(norm x), then x + mlp(norm x).   [ViT, eq. 2-3]"""

    attention_norm: LayerNorm
    attention: Attention
    mlp_norm: LayerNorm
    mlp: Mlp

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        attention, mlp = jr.split(key)
        self.attention_norm = LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads, key=attention)
        self.mlp_norm = LayerNorm(config.width)
        self.mlp = Mlp(config.width, config.mlp_width, key=mlp)

    def __call__(self, x: Float[Array, "*B T D"], mask: Bool[Array, "*B T T"] | None) -> Float[Array, "*B T D"]:
        y = self.attention_norm(x)
        x = x + self.attention(y, y, mask)
        return x + self.mlp(self.mlp_norm(x))


class Encoder(eqx.Module):
    """All blocks in turn and a last norm.   [ViT, eq. 2-4]"""

    blocks: Block
    norm: LayerNorm
    unroll: int = eqx.field(static=True)
    remat: bool = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        keys = jr.split(key, config.depth)
        self.blocks = eqx.filter_vmap(lambda key: Block(config, key=key))(keys)
        self.norm = LayerNorm(config.width)
        self.unroll = config.unroll
        self.remat = config.remat

    def __call__(self, x: Float[Array, "*B T D"], mask: Bool[Array, "*B T T"] | None) -> Float[Array, "*B T D"]:
        stacked, static = eqx.partition(self.blocks, eqx.is_array)

        def step(x, arrays):
            return eqx.combine(arrays, static)(x, mask), None

        step = jax.checkpoint(step) if self.remat else step
        x, _ = jax.lax.scan(step, x, stacked, unroll=self.unroll)
        return self.norm(x)
