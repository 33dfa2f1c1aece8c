"""Pooling: one vector per image slot, from the tokens of the slot; zeros for an empty slot."""

import abc

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from . import config
from .areas import AreaMask, key_weights, pairs
from .attention import Attention
from .config import ModelConfig
from .layers import AbstractNorm, GatedMlp, Mlp, full, make_mlp, make_norm, normal

Slots = Bool[Array, "*B I T"] | AreaMask
"""The tokens of each slot."""


class AbstractPool(eqx.Module):
    """Tokens of a row, the mask of each slot, and the registers of each slot → one vector per slot.

    Where areas count, the mask has the level of each token: it counts 4^level times (`areas.py`).
    """

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, "*B T D"], mask: Slots, registers: Float[Array, "*B I R D"]
    ) -> Float[Array, "*B I D"]: ...


class MapPool(AbstractPool):
    """Masked attention pooling (MAP): a learned query, the probe, attends to the tokens of each slot.

    a = attention(probe, x);  a + mlp(norm a)   [NaViT, §2.1 "masked pooling"; Scaling ViT]
    """

    probe: Float[Array, " D"]
    attention: Attention
    norm: AbstractNorm
    mlp: Mlp | GatedMlp

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        probe, attention, mlp = jr.split(key, 3)
        self.probe = normal(probe, (config.width,), config.width)
        self.attention = Attention(config, key=attention)
        self.norm = make_norm(config.norm, config.width, config.biases, config.eps)
        self.mlp = make_mlp(config, key=mlp)

    def __call__(
        self, x: Float[Array, "*B T D"], mask: Slots, registers: Float[Array, "*B I R D"]
    ) -> Float[Array, "*B I D"]:
        pooled = self.attention(probes(self.probe, x, mask), x, mask)
        return blank(pooled + self.mlp(self.norm(pooled)), mask)


class ResidualMapPool(AbstractPool):
    """probe + attention(probe, x), without an MLP."""

    probe: Float[Array, " D"]
    attention: Attention

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        probe, attention = jr.split(key)
        self.probe = normal(probe, (config.width,), config.width)
        self.attention = Attention(config, key=attention)

    def __call__(
        self, x: Float[Array, "*B T D"], mask: Slots, registers: Float[Array, "*B I R D"]
    ) -> Float[Array, "*B I D"]:
        queries = probes(self.probe, x, mask)
        return blank(queries + self.attention(queries, x, mask), mask)


class MeanPool(AbstractPool):
    """Mean over the tokens of each slot."""

    def __call__(
        self, x: Float[Array, "*B T D"], mask: Slots, registers: Float[Array, "*B I R D"]
    ) -> Float[Array, "*B I D"]:
        y = full(x)  # bfloat16 cannot count beyond 256
        weights = key_weights(mask, y.dtype)
        return (weights @ y / jnp.maximum(weights.sum(-1, keepdims=True), 1)).astype(x.dtype)


class NormedMeanPool(AbstractPool):
    """norm(mean over the tokens of each slot): the norm that others have before it.   [timm, `fc_norm`]"""

    norm: AbstractNorm

    def __init__(self, config: ModelConfig):
        self.norm = make_norm(config.norm, config.width, config.biases, config.eps)

    def __call__(
        self, x: Float[Array, "*B T D"], mask: Slots, registers: Float[Array, "*B I R D"]
    ) -> Float[Array, "*B I D"]:
        return blank(self.norm(MeanPool()(x, mask, registers)), mask)


class MaxPool(AbstractPool):
    """Maximum over the tokens of each slot, per channel.

    Selected by argmax: the gradient of `max` compares values for equality, and where the compiler computes a value in
    two ways, none is equal and the gradient is NaN (docs/log.md).
    """

    def __call__(
        self, x: Float[Array, "*B T D"], mask: Slots, registers: Float[Array, "*B I R D"]
    ) -> Float[Array, "*B I D"]:
        lowest = jnp.finfo(x.dtype).min
        place = jnp.where(pairs(mask)[..., None], x[..., None, :, :], lowest).argmax(-2)
        return blank(jnp.take_along_axis(x, place, axis=-2), mask)


class TokenPool(AbstractPool):
    """The first register of each slot, used as a class token.   [ViT, §3.1]"""

    def __call__(
        self, x: Float[Array, "*B T D"], mask: Slots, registers: Float[Array, "*B I R D"]
    ) -> Float[Array, "*B I D"]:
        return blank(registers[..., 0, :], mask)


def make_pool(model: ModelConfig, *, key: PRNGKeyArray) -> AbstractPool:
    """Initialize the pool of the configuration."""
    match model.pool:
        case config.Map():
            return MapPool(model, key=key)
        case config.ResidualMap():
            return ResidualMapPool(model, key=key)
        case config.Mean():
            return MeanPool()
        case config.NormedMean():
            return NormedMeanPool(model)
        case config.Max():
            return MaxPool()
        case config.Token():
            return TokenPool()


def probes(probe: Float[Array, " D"], x: Float[Array, "*B T D"], mask: Slots) -> Float[Array, "*B I D"]:
    """The probe, repeated for each slot."""
    return jnp.broadcast_to(probe.astype(x.dtype), (*pairs(mask).shape[:-1], x.shape[-1]))


def blank(pooled: Float[Array, "*B I D"], mask: Slots) -> Float[Array, "*B I D"]:
    """`pooled`, with zeros for slots without tokens."""
    return jnp.where(pairs(mask).any(-1, keepdims=True), pooled, 0)
