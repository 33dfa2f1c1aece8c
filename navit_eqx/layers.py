"""Small layers over the last axis of one row or of any batch of rows.

Precision: a layer casts its weights to the dtype of its input; norms and softmax compute in float32 or float64.
Memory: norms and GELU are cheap to compute and large to store, so the backward pass recomputes them from their input
(`jax.checkpoint`), which halves the residuals of a block.
"""

import abc
from collections.abc import Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray

from .activations import quick_gelu, silu
from .config import Gated, ModelConfig

EPSILON = 1e-6  # of norms, as in big_vision


def normal(key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int) -> Float[Array, "..."]:
    """Initial weights: normal with variance 1 / fan-in, which keeps the scale of activations."""
    return jr.normal(key, shape) * fan_in**-0.5


def full(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """x in float32, or float64 where it is float64: for accurate sums."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def expand(v: Num[Array, "*v"], x: Num[Array, "*n"]) -> Num[Array, "..."]:
    """v in the dtype of x and with its number of axes, the last ones of which are those of v."""
    return v.astype(x.dtype).reshape((1,) * (x.ndim - v.ndim) + v.shape)


def matmul(x: Float[Array, "*n In"], w: Float[Array, "In *out"]) -> Float[Array, "..."]:
    """x w over the last axis of x, as one matrix product over all tokens of the batch.

    The gradient of w then contracts one axis instead of two, which XLA compiles to a single GEMM.
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
        return matmul(x, self.w) + expand(self.b, x)


class AbstractNorm(eqx.Module):
    """A norm over the last axis, with a scale and an optional bias."""

    scale: eqx.AbstractVar[Float[Array, "*L D"]]
    bias: eqx.AbstractVar[Float[Array, "*L D"] | None]
    eps: eqx.AbstractVar[float]

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*n D"]) -> Float[Array, "*n D"]: ...


class LayerNorm(AbstractNorm):
    """scale · (x − mean) / √(variance + ε) + bias"""

    scale: Float[Array, "*L D"]
    bias: Float[Array, "*L D"] | None
    eps: float = eqx.field(static=True, default=EPSILON)

    @jax.checkpoint
    def __call__(self, x: Float[Array, "*n D"]) -> Float[Array, "*n D"]:
        y = full(x)
        return scaled(self, y - y.mean(-1, keepdims=True)).astype(x.dtype)


class AbstractRmsNorm(AbstractNorm):
    """scale · x / √(mean x² + ε) + bias   [Zhang & Sennrich, arXiv:1910.07467]"""

    scale: Float[Array, "*L D"]
    bias: Float[Array, "*L D"] | None
    eps: float = eqx.field(static=True, default=EPSILON)

    @jax.checkpoint
    def __call__(self, x: Float[Array, "*n D"]) -> Float[Array, "*n D"]:
        return scaled(self, full(x)).astype(x.dtype)


class RmsNorm(AbstractRmsNorm):
    """RMSNorm of tokens, or of the queries or keys of each head."""


class WholeRmsNorm(AbstractRmsNorm):
    """RMSNorm of the queries or keys of all heads together, "H K" as one axis, after their rotation.

    [UniViTAR, arXiv:2504.01792]
    """


def scaled(norm: AbstractNorm, x: Float[Array, "*n D"]) -> Float[Array, "*n D"]:
    """scale · x / √(mean x² + ε) + bias"""
    y = expand(norm.scale, x) * x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + norm.eps)
    return y if norm.bias is None else y + expand(norm.bias, y)


NORMS = {"layer": LayerNorm, "rms": RmsNorm, "whole": WholeRmsNorm}


def make_norm(kind: str, width: int, biases: bool, eps: float = EPSILON) -> AbstractNorm:
    """Initialize the norm named `kind` in the configuration."""
    return NORMS[kind](jnp.ones(width), jnp.zeros(width) if biases else None, eps)


ACTIVATIONS = {
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "gelu": partial(jax.nn.gelu, approximate=False),
    "quick_gelu": quick_gelu,
    "silu": silu,
}


class Mlp(eqx.Module):
    """gelu(x w₁ + b₁) w₂ + b₂, or another activation"""

    grow: Linear
    shrink: Linear
    activation: str = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        grow, shrink = jr.split(key)
        self.grow = Linear(config.width, config.mlp_width, key=grow)
        self.shrink = Linear(config.mlp_width, config.width, key=shrink)
        self.activation = config.activation

    def __call__(self, x: Float[Array, "*n D"]) -> Float[Array, "*n D"]:
        return self.shrink(jax.checkpoint(ACTIVATIONS[self.activation])(self.grow(x)))


class GatedMlp(eqx.Module):
    """norm(activation(x w₁ + b₁) ∘ (x w₃ + b₃)) w₂ + b₂, with the names grow, gate, shrink for 1, 3, 2.

    [Shazeer, arXiv:2002.05202]; most have no norm.
    """

    grow: Linear
    gate: Linear
    norm: AbstractNorm | None
    shrink: Linear
    activation: str = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        grow, gate, shrink = jr.split(key, 3)
        self.grow = Linear(config.width, config.mlp_width, key=grow)
        self.gate = Linear(config.width, config.mlp_width, key=gate)
        normed = isinstance(config.mlp, Gated) and config.mlp.norm
        self.norm = make_norm(config.norm, config.mlp_width, config.biases, config.eps) if normed else None
        self.shrink = Linear(config.mlp_width, config.width, key=shrink)
        self.activation = config.activation

    def __call__(self, x: Float[Array, "*n D"]) -> Float[Array, "*n D"]:
        activation = ACTIVATIONS[self.activation]
        y = jax.checkpoint(lambda a, b: activation(a) * b)(self.grow(x), self.gate(x))
        return self.shrink(y if self.norm is None else self.norm(y))


def make_mlp(config: ModelConfig, *, key: PRNGKeyArray) -> Mlp | GatedMlp:
    """Initialize the MLP of the configuration."""
    return (GatedMlp if isinstance(config.mlp, Gated) else Mlp)(config, key=key)


def masked_softmax(logits: Float[Array, "*n S"], mask: Bool[Array, "*#n S"] | None) -> Float[Array, "*n S"]:
    """Softmax over the unmasked keys; zeros where every key is masked. A mask of None allows all keys.

    Masked logits are the lowest finite number instead of −∞, to avoid ∞ − ∞ in the value and in the gradient.
    """
    x = full(logits)
    if mask is None:
        return jax.nn.softmax(x, axis=-1).astype(logits.dtype)
    masked = jnp.where(mask, x, jnp.finfo(x.dtype).min)
    return jnp.where(mask, jax.nn.softmax(masked, axis=-1), 0).astype(logits.dtype)


def normalize(
    patches: Num[Array, "*B T P"], mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.5,)
) -> Float[Array, "*B T P"]:
    """(x / 255 − mean) / std for each channel; floating-point patches are already normalized and returned as they are.

    A single number in `mean` or `std` applies to every channel. Pixels are transferred to the device as uint8, a
    quarter of the bytes of float32.
    """
    if jnp.issubdtype(patches.dtype, jnp.floating):
        return patches
    repeats = patches.shape[-1] // max(len(mean), len(std))
    per_channel = np.broadcast_arrays(1 / (255 * np.array(std)), np.array(mean) / np.array(std))
    scale, shift = (np.tile(values, repeats) for values in per_channel)
    x = patches.astype(jnp.float32)
    return x * expand(jnp.asarray(scale), x) - expand(jnp.asarray(shift), x)


def compute_dtype(dtype: str) -> str:
    """ "auto" is float32 on a CPU, where bfloat16 is slower, and bfloat16 on accelerators."""
    if dtype != "auto":
        return dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"
