"""Multi-head attention.   q: T H K · k, v: S H K · logits: H T S · out: T D"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .config import ModelConfig
from .layers import AbstractNorm, WholeRmsNorm, expand, full, make_norm, masked_softmax, matmul, normal
from .masks import SegmentMask
from .rope import apply_rotary


class Attention(eqx.Module):
    """Σ_heads softmax(norm(q) norm(k)ᵀ · scale) v · o: tokens of `x` attend to the unmasked tokens of `context`.

    Queries and keys are rotated by `angles` (self-attention only; None rotates nothing), after their norm, but for a
    norm of all heads together, which comes last.
    """

    q: Float[Array, "*L D H K"]
    k: Float[Array, "*L D H K"]
    v: Float[Array, "*L D H K"]
    o: Float[Array, "*L H K D"]
    q_bias: Float[Array, "*L H K"] | None
    k_bias: Float[Array, "*L H K"] | None
    v_bias: Float[Array, "*L H K"] | None
    o_bias: Float[Array, "*L D"] | None
    q_norm: AbstractNorm | None
    k_norm: AbstractNorm | None
    logit_scale: float = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        q, k, v, o = jr.split(key, 4)
        width, heads = config.width, config.heads
        size = config.head_channels
        self.q = normal(q, (width, heads, size), width)
        self.k = normal(k, (width, heads, size), width)
        self.v = normal(v, (width, heads, size), width)
        self.o = normal(o, (heads, size, width), heads * size)
        self.q_bias = self.k_bias = self.v_bias = jnp.zeros((heads, size)) if config.biases else None
        self.o_bias = jnp.zeros(width) if config.biases else None
        normed = heads * size if config.qk_norm == "whole" else size
        self.q_norm, self.k_norm = (
            None if config.qk_norm == "none" else make_norm(config.qk_norm, normed, config.biases, config.eps)
            for _ in "qk"
        )
        self.logit_scale = size**-0.5 if config.logit_scale == "sqrt" else 1.0

    def __call__(
        self,
        x: Float[Array, "*B T D"],
        context: Float[Array, "*B S D"],
        mask: Bool[Array, "*B T S"] | SegmentMask | None,
        angles: Float[Array, "*B T half"] | None = None,
    ) -> Float[Array, "*B T D"]:
        q = rotated(project(x, self.q, self.q_bias, self.q_norm), self.q_norm, angles)
        k = rotated(project(context, self.k, self.k_bias, self.k_norm), self.k_norm, angles)
        v = project(context, self.v, self.v_bias, None)
        mixed: Any = attend(q, k, v, mask, self.logit_scale)
        flat = heads_first(mixed).reshape(*x.shape[:-1], -1)
        return plus(matmul(flat, self.o.reshape(flat.shape[-1], -1)), self.o_bias)


def attend(
    q: Float[Array, "*B H T K"],
    k: Float[Array, "*B H S K"],
    v: Float[Array, "*B H S K"],
    mask: Bool[Array, "*B T S"] | SegmentMask | None,
    scale: float,
) -> Float[Array, "*B H T K"]:
    """softmax(q kᵀ · scale) v by the backend of the mask; see `kernels.attention_mask`."""
    if isinstance(mask, SegmentMask):
        return mask.dot_product_attention(q, k, v, scale)
    return dot_product_attention(q, k, v, None if mask is None else mask[..., None, :, :], scale)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def dot_product_attention(
    q: Float[Array, "*B H T K"],
    k: Float[Array, "*B H S K"],
    v: Float[Array, "*B H S K"],
    mask: Bool[Array, "*#B 1 T S"] | None,
    scale: float,
) -> Float[Array, "*B H T K"]:
    """softmax(q kᵀ · scale) v, with a custom gradient whose only residual of size T S is the weights w.

    Masked weights are 0, so the gradient needs no mask: dS = w ∘ (dW − Σ_s w ∘ dW).
    """
    return dot_product_attention_fwd(q, k, v, mask, scale)[0]


def dot_product_attention_fwd(
    q: Array, k: Array, v: Array, mask: Array | None, scale: float
) -> tuple[Array, tuple[Array, ...]]:
    """Outputs, and the residuals (q, k, v, weights) for the backward pass."""
    weights = masked_softmax(jnp.einsum("...htk,...hsk->...hts", q, k) * scale, mask)
    return jnp.einsum("...hts,...hsk->...htk", weights, v), (q, k, v, weights)


def dot_product_attention_bwd(scale: float, residuals: tuple[Array, ...], g: Array) -> tuple[Array, Array, Array]:
    """Gradients with respect to q, k and v, from the gradient `g` of the outputs."""
    q, k, v, weights = residuals
    dv = jnp.einsum("...hts,...htk->...hsk", weights, g)
    dw, w = full(jnp.einsum("...htk,...hsk->...hts", g, v)), full(weights)
    ds = (scale * w * (dw - (w * dw).sum(-1, keepdims=True))).astype(q.dtype)
    return jnp.einsum("...hts,...hsk->...htk", ds, k), jnp.einsum("...hts,...htk->...hsk", ds, q), dv


dot_product_attention.defvjp(
    dot_product_attention_fwd, lambda scale, residuals, g: (*dot_product_attention_bwd(scale, residuals, g), None)
)


def project(
    x: Float[Array, "*B T D"],
    w: Float[Array, "D H K"],
    bias: Float[Array, "H K"] | None,
    norm: AbstractNorm | None,
) -> Float[Array, "*B H T K"]:
    """Queries, keys or values of all heads, normalized where there is a norm of each head."""
    y = plus(matmul(x, w), bias)
    return heads_first(y if norm is None or isinstance(norm, WholeRmsNorm) else norm(y))


def rotated(
    x: Float[Array, "*B H T K"], norm: AbstractNorm | None, angles: Float[Array, "*B T half"] | None
) -> Float[Array, "*B H T K"]:
    """Queries or keys, rotated; then normalized where the norm is that of all heads together."""
    y = x if angles is None else apply_rotary(x, angles)
    if not isinstance(norm, WholeRmsNorm):
        return y
    y = heads_first(y)
    return heads_first(norm(y.reshape(*y.shape[:-2], -1)).reshape(y.shape))


def plus(x: Float[Array, "*n"], bias: Float[Array, "*#n"] | None) -> Float[Array, "*n"]:
    """x + bias; x where `bias` is None."""
    return x if bias is None else x + expand(bias, x)


def heads_first(x: Float[Array, "*B T H K"]) -> Float[Array, "*B H T K"]:
    """Transpose heads and tokens (its own inverse): matrix products then run over contiguous matrices."""
    return jnp.swapaxes(x, -3, -2)
