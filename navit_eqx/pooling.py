"""One vector per image."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .attention import Attention
from .config import ModelConfig
from .layers import LayerNorm, Mlp, normal


class MapPool(eqx.Module):
    """Masked attention pooling: a learned probe looks at the tokens of each slot; an empty slot gives zeros.

    a = attention(probe, x);  a + mlp(norm a)   [NaViT, §2.1 "masked pooling"; Scaling ViT]
    """

    probe: Float[Array, " D"]
    attention: Attention
    norm: LayerNorm
    mlp: Mlp

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        probe, attention, mlp = jr.split(key, 3)
        self.probe = normal(probe, (config.width,), config.width)
        self.attention = Attention(config.width, config.heads, key=attention)
        self.norm = LayerNorm(config.width)
        self.mlp = Mlp(config.width, config.mlp_width, key=mlp)

    def __call__(self, x: Float[Array, "*B T D"], mask: Bool[Array, "*B I T"]) -> Float[Array, "*B I D"]:
        probes = jnp.broadcast_to(self.probe.astype(x.dtype), (*mask.shape[:-1], x.shape[-1]))
        pooled = self.attention(probes, x, mask)
        pooled = pooled + self.mlp(self.norm(pooled))
        return jnp.where(mask.any(-1, keepdims=True), pooled, 0)
