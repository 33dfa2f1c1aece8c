"""The small layers. Each acts on the last axis of one row or of any batch of rows.

Precision: a layer casts its weights to the dtype of its input; norms and softmax compute in float32 or better.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

EPSILON = 1e-6  # of layer norm, as in big_vision


def normal(key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int) -> Float[Array, "..."]:
    """Fresh weights with variance 1 / fan-in, which keeps the scale of what passes through."""
    return jr.normal(key, shape) * fan_in**-0.5


def full(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """x in at least float32, for sums that must not round."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def matmul(x: Float[Array, "*n In"], w: Float[Array, "In *out"]) -> Float[Array, "..."]:
    """x w over the last axis of x, as one matrix product of all tokens in the batch.

    The gradient of w then contracts one long axis instead of two, which XLA turns into a plain GEMM.
    """
    flat = x.reshape(-1, x.shape[-1]) @ w.reshape(len(w), -1).astype(x.dtype)
    return flat.reshape(*x.shape[:-1], *w.shape[1:])


class Linear(eqx.Module):
    """x w + b"""

    w: Float[Array, "*L In Out"]
    b: Float[Array, "*L Out"]

    def __init__(self, inputs: int, outputs: int, *, key: PRNGKeyArray):
        self.w = normal(key, (inputs, outputs), inputs)
        self.b = jnp.zeros(outputs)

    def __call__(self, x: Float[Array, "*n In"]) -> Float[Array, "*n Out"]:
        return matmul(x, self.w) + self.b.astype(x.dtype)


class LayerNorm(eqx.Module):
    """scale · (x − mean) / √(variance + ε), over the last axis."""

    scale: Float[Array, "*L D"]

    def __init__(self, width: int):
        self.scale = jnp.ones(width)

    def __call__(self, x: Float[Array, "*n D"]) -> Float[Array, "*n D"]:
        y = full(x)
        centred = y - y.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        return (self.scale.astype(y.dtype) * centred * jax.lax.rsqrt(variance + EPSILON)).astype(x.dtype)


class Mlp(eqx.Module):
    """gelu(x w₁ + b₁) w₂ + b₂, with the tanh form of GELU."""

    grow: Linear
    shrink: Linear

    def __init__(self, width: int, mlp_width: int, *, key: PRNGKeyArray):
        grow, shrink = jr.split(key)
        self.grow = Linear(width, mlp_width, key=grow)
        self.shrink = Linear(mlp_width, width, key=shrink)

    def __call__(self, x: Float[Array, "*n D"]) -> Float[Array, "*n D"]:
        return self.shrink(jax.nn.gelu(self.grow(x), approximate=True))


def masked_softmax(logits: Float[Array, "*n S"], mask: Bool[Array, "*#n S"] | None) -> Float[Array, "*n S"]:
    """Softmax over the keys that the mask allows; where it allows none, zeros.   None allows all.

    The lowest finite number stands in for what is masked, so that neither value nor gradient meets ∞ − ∞.
    """
    x = full(logits)
    if mask is None:
        return jax.nn.softmax(x, axis=-1).astype(logits.dtype)
    masked = jnp.where(mask, x, jnp.finfo(x.dtype).min)
    return jnp.where(mask, jax.nn.softmax(masked, axis=-1), 0).astype(logits.dtype)
