"""Multi-head attention.   q: T H K · k, v: S H K · logits: H T S · out: T D"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .layers import LayerNorm, masked_softmax, matmul, normal


class Attention(eqx.Module):
    """Σ_heads softmax(norm(q) norm(k)ᵀ / √K) v · o: tokens of `x` look at those of `context` the mask allows."""

    q: Float[Array, "*L D H K"]
    k: Float[Array, "*L D H K"]
    v: Float[Array, "*L D H K"]
    o: Float[Array, "*L H K D"]
    q_norm: LayerNorm
    k_norm: LayerNorm

    def __init__(self, width: int, heads: int, *, key: PRNGKeyArray):
        q, k, v, o = jr.split(key, 4)
        size = width // heads
        self.q = normal(q, (width, heads, size), width)
        self.k = normal(k, (width, heads, size), width)
        self.v = normal(v, (width, heads, size), width)
        self.o = normal(o, (heads, size, width), width)
        self.q_norm = LayerNorm(size)
        self.k_norm = LayerNorm(size)

    def __call__(
        self,
        x: Float[Array, "*B T D"],
        context: Float[Array, "*B S D"],
        mask: Bool[Array, "*B T S"] | None,
    ) -> Float[Array, "*B T D"]:
        q, k, v = matmul(x, self.q), matmul(context, self.k), matmul(context, self.v)
        q, k, v = heads_first(self.q_norm(q)), heads_first(self.k_norm(k)), heads_first(v)
        logits = jnp.einsum("...htk,...hsk->...hts", q, k) * q.shape[-1] ** -0.5
        weights = masked_softmax(logits, None if mask is None else mask[..., None, :, :])
        mixed = jnp.einsum("...hts,...hsk->...htk", weights, v)
        flat = heads_first(mixed).reshape(*x.shape[:-1], -1)
        return matmul(flat, self.o.reshape(flat.shape[-1], -1))


def heads_first(x: Float[Array, "*B T H K"]) -> Float[Array, "*B H T K"]:
    """Heads before tokens (and back): the products below then run over contiguous matrices."""
    return jnp.swapaxes(x, -3, -2)
