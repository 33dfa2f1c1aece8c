"""Rotary position embedding: queries and keys are rotated by angles proportional to the coordinates."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .config import ModelConfig
from .layers import expand
from .rotary_forms import FREQUENCIES, PLACES


class Rope(eqx.Module):
    """Angles place_a · θ^(−j / J), j < J = K / 2A, in radians: each axis rotates 1/A of the channel pairs of a head.

    [RoFormer, arXiv:2104.09864; axial form for images: arXiv:2403.13298]
    """

    size: int = eqx.field(static=True)
    theta: float = eqx.field(static=True)
    coordinate: str = eqx.field(static=True, default="absolute")
    frequencies: str = eqx.field(static=True, default="shared")

    def __call__(self, coords: Num[Array, "*B T A"], grids: Num[Array, "*B T A"]) -> Float[Array, "*B T half"]:
        axes = coords.shape[-1]
        share = self.size // (2 * axes)
        frequency = FREQUENCIES[self.frequencies](self.theta, share, axes)
        places = PLACES[self.coordinate](coords, grids)[..., None]
        angles = places * expand(jnp.asarray(frequency), places)
        return angles.reshape(*coords.shape[:-1], axes * share)


def make_rope(config: ModelConfig) -> Rope | None:
    """Initialize the rotary positions of the configuration; None where there are none."""
    rope = config.rope
    return None if rope is None else Rope(config.head_channels, rope.theta, rope.coordinate, rope.frequencies)


def apply_rotary(x: Float[Array, "*B H T K"], angles: Float[Array, "*B T half"]) -> Float[Array, "*B H T K"]:
    """Rotate each pair (x_j, x_{j + K/2}) by its angle; all heads share the angles."""
    cos, sin = (f(angles)[..., None, :, :].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
