"""Activations of imported towers, beside those of JAX."""

import jax
from jaxtyping import Array, Float


def quick_gelu(x: Float[Array, "*T D"]) -> Float[Array, "*T D"]:
    """x σ(1.702 x), an approximation of GELU.   [Hendrycks & Gimpel, arXiv:1606.08415, §2; CLIP]"""
    return x * jax.nn.sigmoid(1.702 * x)


def silu(x: Float[Array, "*T D"]) -> Float[Array, "*T D"]:
    """x σ(x)   [Elfwing et al., arXiv:1702.03118]"""
    return x * jax.nn.sigmoid(x)
