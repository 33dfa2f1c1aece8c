"""Forms of rotary positions: what stands for the place of a token, and which frequencies each axis has."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num


def absolute(coords: Num[Array, "*B T A"], grids: Num[Array, "*B T A"]) -> Float[Array, "*B T A"]:
    """The place is the patch index itself."""
    return coords.astype(float)


def centered(coords: Num[Array, "*B T A"], grids: Num[Array, "*B T A"]) -> Float[Array, "*B T A"]:
    """2π (2 (x + ½) / n − 1): one turn from the center of the image to each edge.   [DINOv3, arXiv:2508.10104]"""
    return 2 * np.pi * (2 * (coords.astype(float) + 0.5) / jnp.maximum(grids, 1).astype(float) - 1)


def shared(theta: float, share: int, axes: int) -> Float[np.ndarray, "A J"]:
    """θ^(−j / J): every axis has the same J frequencies."""
    return np.tile(theta ** -(np.arange(share) / share), (axes, 1))


def interleaved(theta: float, share: int, axes: int) -> Float[np.ndarray, "A J"]:
    """θ^(−(j + a/A) / J): the axes take turns along one series of A · J frequencies.   [Pixtral, arXiv:2410.07073]"""
    series = theta ** -(np.arange(axes * share) / (axes * share))
    return series.reshape(share, axes).T


PLACES = {"absolute": absolute, "centered": centered}
FREQUENCIES = {"shared": shared, "interleaved": interleaved}
