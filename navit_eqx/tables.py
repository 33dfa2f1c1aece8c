"""Position tables of imported towers: one square table per image size, read token by token.

A tower resizes its table to the grid of an image, by a routine of its library. Row x of that resize depends on (x, n)
alone, so each token reads the table by the weights of its own row: static shapes, any mixture of sizes.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Num, PRNGKeyArray

from . import config
from .layers import expand

RADII = {"linear": 1, "cubic": 2}


def triangle(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """max(0, 1 − |x|): the filter of linear interpolation."""
    return jnp.maximum(0.0, 1.0 - jnp.abs(x))


def keys(x: Float[Array, "*n"], a: float) -> Float[Array, "*n"]:
    """The filter of cubic convolution; a is its slope at |x| = 1.   [Keys 1981, eq. 4]"""
    x = jnp.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))


FILTERS = {"linear": triangle, "cubic": lambda x: keys(x, -0.75)}  # of libraries without antialias
SMOOTH = {"linear": triangle, "cubic": lambda x: keys(x, -0.5)}  # and with it


def half_pixel(x: Float[Array, "*T"], n: Float[Array, "*T"], size: int) -> Float[Array, "*T"]:
    """u = (x + ½) M/n − ½: the edges of the image lie on the edges of the table."""
    return (x + 0.5) * size / n - 0.5


def corners(x: Float[Array, "*T"], n: Float[Array, "*T"], size: int) -> Float[Array, "*T"]:
    """u = x (M − 1)/(n − 1), 0 where n = 1: the first and last patch read the first and last entry."""
    return x * (size - 1) / jnp.maximum(n - 1, 1)


GRIDS = {"half_pixel": half_pixel, "corners": corners}


def interpolated(u: Float[Array, "*T"], size: int, method: str) -> Float[Array, "*T M"]:
    """Weights of the entries around u; entries beyond an end are that end.

    An end collects the weights of all taps beyond it: at most 2, so each entry adds up those taps of its own.
    """
    low = jnp.floor(u)
    entries = expand(jnp.arange(size), u[..., None])
    weights = jnp.zeros((*u.shape, size), u.dtype)
    for offset in range(1 - RADII[method], RADII[method] + 1):
        tap = low + offset
        hit = entries == jnp.clip(tap, 0, size - 1)[..., None]
        weights = weights + jnp.where(hit, FILTERS[method](u - tap)[..., None], 0.0)
    return weights


def antialiased(u: Float[Array, "*T"], size: int, method: str, step: Float[Array, "*T"]) -> Float[Array, "*T M"]:
    """Weights by the filter widened to max(1, step); entries beyond an end have no weight, the others sum to 1."""
    distance = u[..., None] - expand(jnp.arange(size), u[..., None])
    weights = SMOOTH[method](distance / jnp.maximum(1.0, step)[..., None])
    return weights / weights.sum(-1, keepdims=True)


def bucketed(x: Float[Array, "*T"], n: Float[Array, "*T"], size: int) -> Float[Array, "*T M"]:
    """The entry ⌊x M / n⌋ alone, as computed in float32 by [NaViT in Idefics2]: off by one for a few n."""
    step = jax.lax.optimization_barrier(1 / n.astype(jnp.float32))  # rounded, whatever the compiler would rather do
    fraction = jnp.minimum(x.astype(jnp.float32) * step, jnp.float32(1 - 1e-6))
    boundaries = jnp.asarray((1 / size + np.arange(size - 1) * (1 / size)).astype(np.float32))  # on the host
    entry = (fraction[..., None] >= expand(boundaries, fraction[..., None])).sum(-1)[..., None]
    return (entry == expand(jnp.arange(size), entry)).astype(x.dtype)


class Table(eqx.Module):
    """Σ_ab weights(y)_a weights(x)_b table_ab; with `aspect` the table is resized to the square around the image."""

    entries: Float[Array, "M N D"]
    kernel: str = eqx.field(static=True)
    grid: str = eqx.field(static=True)
    aspect: bool = eqx.field(static=True)

    def __init__(self, config: config.Table, width: int, *, key: PRNGKeyArray):
        self.entries = 0.02 * jr.normal(key, (config.size, config.size, width))
        self.kernel = config.kernel
        self.grid = config.grid
        self.aspect = config.aspect

    def __call__(self, coords: Num[Array, "*B T A"], grids: Num[Array, "*B T A"]) -> Float[Array, "*B T D"]:
        n = jnp.maximum(grids, 1)
        n = jnp.broadcast_to(n.max(-1, keepdims=True), n.shape) if self.aspect else n
        x, n = coords.astype(float), n.astype(float)
        rows, columns = (self.weights_of(x[..., a], n[..., a], self.entries.shape[a]) for a in range(2))
        weights = jnp.einsum("...ta,...tb->...tab", rows, columns).reshape(*rows.shape[:-1], -1)
        return weights.astype(self.entries.dtype) @ self.entries.reshape(-1, self.entries.shape[-1])

    def weights_of(self, x: Float[Array, "*B T"], n: Float[Array, "*B T"], size: int) -> Float[Array, "*B T M"]:
        """Weights of the entries of one axis, by the kernel and the grid of the table."""
        method, _, smooth = self.kernel.partition("_")
        if method == "bucket":
            return bucketed(x, n, size)
        u = GRIDS[self.grid](x, n, size)
        return antialiased(u, size, method, size / n) if smooth else interpolated(u, size, method)
