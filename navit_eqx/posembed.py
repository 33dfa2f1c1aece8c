"""Position embedding as one sentence: a *coordinate*, a *feature* of it, and a way to *combine* the axes."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from . import config


def absolute(coords: Int[Array, "*B T A"], grids: Int[Array, "*B T A"], size: int) -> Float[Array, "*B T A"]:
    """The patch index itself.   [NaViT, §2.1]"""
    return coords.astype(float)


def fractional(coords: Int[Array, "*B T A"], grids: Int[Array, "*B T A"], size: int) -> Float[Array, "*B T A"]:
    """Centre of the patch as a fraction of its side, in table units: (x + ½)/n · M − ½.   [NaViT, §2.1]"""
    return (coords.astype(float) + 0.5) / jnp.maximum(grids, 1).astype(float) * size - 0.5


def learned(table: Float[Array, "M D"], u: Float[Array, "*B T"]) -> Float[Array, "*B T D"]:
    """The table at u, linear between entries: Σ_m max(0, 1 − |u − m|) table_m.   NaN beyond the table.

    A small matrix product instead of a gather: its gradient is one too, not a scatter.
    """
    last = len(table) - 1
    inside = (u >= -0.5) & (u <= last + 0.5)
    entries = jnp.arange(last + 1, dtype=u.dtype)
    distance = jnp.abs(jnp.clip(u, 0, last)[..., None] - entries)
    weights = jnp.maximum(0, 1 - distance).astype(table.dtype)
    return jnp.where(inside[..., None], weights @ table, jnp.nan)


def add(parts: list[Float[Array, "*B T D"]]) -> Float[Array, "*B T D"]:
    """Sum over the axes: the best of the paper's table 3."""
    return sum(parts[1:], start=parts[0])


COORDINATES = {"absolute": absolute, "fractional": fractional}
FEATURES = {"learned": learned}
COMBINE = {"sum": add}


class Factorised(eqx.Module):
    """combine_a feature(table_a, coordinate_a); `grids` is the grid of each token's image.   [NaViT, §2.1]"""

    tables: Float[Array, "A M D"]
    coordinate: str = eqx.field(static=True)
    feature: str = eqx.field(static=True)
    combine: str = eqx.field(static=True)

    def __init__(self, config: config.Factorised, width: int, *, key: PRNGKeyArray):
        self.tables = 0.02 * jr.normal(key, (config.axes, config.size, width))
        self.coordinate = config.coordinate
        self.feature = config.feature
        self.combine = config.combine

    def __call__(self, coords: Int[Array, "*B T A"], grids: Int[Array, "*B T A"]) -> Float[Array, "*B T D"]:
        u = COORDINATES[self.coordinate](coords, grids, self.tables.shape[1])
        feature = FEATURES[self.feature]
        return COMBINE[self.combine]([feature(table, u[..., a]) for a, table in enumerate(self.tables)])
