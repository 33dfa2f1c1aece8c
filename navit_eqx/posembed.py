"""Position embedding as one sentence: a *coordinate*, a *feature* of it, and a way to *combine* the axes.

                       each axis by itself, combined     all axes at once
    a learned table    Factorised                        Joint
    waves              Sinusoidal (fixed)                Fourier (learned frequencies)

The position of a token depends only on its coordinates and on the grid of its image. Tables are read by small matrix
products instead of gathers, so that their gradients are matrix products, not scatters.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Num, PRNGKeyArray

from . import config
from .layers import expand
from .tables import Table

WAVELENGTHS = 10_000  # slowest over fastest sinusoid
SPREAD = 0.02  # standard deviation of initial tables


def absolute(grids: Num[Array, "*B T A"], size: int) -> Float[Array, "*B T A"]:
    """Step 1: u is the patch index itself.   [NaViT, §2.1]"""
    return jnp.ones(grids.shape)


def fractional(grids: Num[Array, "*B T A"], size: int) -> Float[Array, "*B T A"]:
    """Step M/n: each side of the image, of any length n, spans the table.   [NaViT, §2.1]"""
    return size / jnp.maximum(grids, 1).astype(float)


def fractional_aspect(grids: Num[Array, "*B T A"], size: int) -> Float[Array, "*B T A"]:
    """Step M/max n: the longest side spans the table, the others a part of it; aspect is kept.   [NaViT, fig. 16]"""
    return jnp.broadcast_to(size / jnp.maximum(grids, 1).max(-1, keepdims=True).astype(float), grids.shape)


def locate(
    coordinate: str, coords: Num[Array, "*B T A"], grids: Num[Array, "*B T A"], size: int
) -> tuple[Float[Array, "*B T A"], Float[Array, "*B T A"]]:
    """(u, step) with u = (x + ½) · step − ½, in table entries."""
    step = COORDINATES[coordinate](grids, size)
    return (coords.astype(float) + 0.5) * step - 0.5, step


def tent(u: Float[Array, "*B T"], size: int, radius: Float[Array, "*B T"]) -> Float[Array, "*B T M"]:
    """Interpolation weights of the entries m around u: max(0, 1 − |u − m| / radius), normalized to Σ_m = 1."""
    near = jnp.clip(u, 0, size - 1)[..., None]
    distance = jnp.abs(near - expand(jnp.arange(size), near))
    weights = jnp.maximum(0, 1 - distance / radius[..., None])
    return weights / weights.sum(-1, keepdims=True)


def read(
    table: Float[Array, "*M W"], u: Float[Array, "*B T A"], radius: Float[Array, "*B T A"]
) -> Float[Array, "*B T W"]:
    """The table interpolated at u: Σ_m Π_a tent(u_a)_m table_m, over all entries m = (m₁, …, m_A).

    NaN more than half an entry beyond an end.
    """
    *sizes, width = table.shape
    weights = jnp.ones_like(u[..., :1])
    for size, u_a, radius_a in zip(sizes, by_axis(u), by_axis(radius), strict=True):
        entries = tent(u_a[..., 0], size, radius_a[..., 0])
        weights = jnp.einsum("...tn,...tm->...tnm", weights, entries).reshape(*u.shape[:-1], -1)
    inside = ((u >= -0.5) & (u <= expand(jnp.asarray(sizes), u) - 0.5)).all(-1)
    return jnp.where(inside[..., None], weights.astype(table.dtype) @ table.reshape(-1, width), jnp.nan)


def learned(
    table: Float[Array, "*M W"], u: Float[Array, "*B T A"], step: Float[Array, "*B T A"]
) -> Float[Array, "*B T W"]:
    """The table at u, by linear interpolation between entries.   [NaViT, §2.1]"""
    return read(table, u, jnp.ones_like(step))


def resized(
    table: Float[Array, "*M W"], u: Float[Array, "*B T A"], step: Float[Array, "*B T A"]
) -> Float[Array, "*B T W"]:
    """The table resized to the grid of the image and read at u: linear, antialiased where step > 1.   [ViT, §3.2]"""
    return read(table, u, jnp.maximum(1, step))


def waves(frequencies: Float[Array, "A K"], u: Float[Array, "*B T A"]) -> Float[Array, "*B T 2*K"]:
    """(sin z, cos z) with z = u · frequencies, in radians; defined for every u.   [Tancik et al., arXiv:2006.10739]"""
    z = jnp.einsum("...ta,ak->...tk", u.astype(frequencies.dtype), frequencies)
    return jnp.concatenate([jnp.sin(z), jnp.cos(z)], axis=-1)


def geometric(width: int) -> Float[Array, "1 K"]:
    """Frequencies 10000^(−k/K), k < K = W/2, for W channels of one axis.   [Vaswani et al., §3.5]"""
    return WAVELENGTHS ** (-jnp.arange(0, width, 2, dtype=float)[None] / width)


def add(parts: list[Float[Array, "*B T D"]]) -> Float[Array, "*B T D"]:
    """Sum over the axes: the best in [NaViT, table 3]."""
    return sum(parts[1:], start=parts[0])


def stack(parts: list[Float[Array, "*B T W"]]) -> Float[Array, "*B T D"]:
    """Concatenation over the axes, W = D/A channels each."""
    return jnp.concatenate(parts, axis=-1)


def multiply(parts: list[Float[Array, "*B T D"]]) -> Float[Array, "*B T D"]:
    """Elementwise product over the axes."""
    return jnp.prod(jnp.stack(parts), axis=0)


COORDINATES = {"absolute": absolute, "fractional": fractional, "fractional_aspect": fractional_aspect}
FEATURES = {"learned": learned, "resized": resized}
COMBINE = {"sum": add, "stack": stack, "product": multiply}


def by_axis(x: Float[Array, "*B T A"]) -> list[Float[Array, "*B T 1"]]:
    """The columns of x, one per axis."""
    return jnp.split(x, x.shape[-1], axis=-1)


class Factorised(eqx.Module):
    """combine_a feature(table_a, u_a).   [NaViT, §2.1]"""

    tables: Float[Array, "A M W"]
    coordinate: str = eqx.field(static=True)
    feature: str = eqx.field(static=True)
    combine: str = eqx.field(static=True)

    def __init__(self, config: config.Factorised, width: int, *, key: PRNGKeyArray):
        # Choice: tables of a product are initialized around 1; around 0 their product would be 0.02² and hardly train.
        center = 1 if config.combine == "product" else 0
        self.tables = center + SPREAD * jr.normal(key, (config.axes, config.size, width // config.pieces))
        self.coordinate = config.coordinate
        self.feature = config.feature
        self.combine = config.combine

    def __call__(self, coords: Num[Array, "*B T A"], grids: Num[Array, "*B T A"]) -> Float[Array, "*B T D"]:
        u, step = locate(self.coordinate, coords, grids, self.tables.shape[1])
        feature = FEATURES[self.feature]
        parts = [feature(*axis) for axis in zip(self.tables, by_axis(u), by_axis(step), strict=True)]
        return COMBINE[self.combine](parts)


class Joint(eqx.Module):
    """feature(table, u) with one table of M^A entries.   [NaViT, table 3]"""

    table: Float[Array, "*M D"]
    coordinate: str = eqx.field(static=True)
    feature: str = eqx.field(static=True)

    def __init__(self, config: config.Joint, width: int, *, key: PRNGKeyArray):
        self.table = SPREAD * jr.normal(key, (*(config.size,) * config.axes, width))
        self.coordinate = config.coordinate
        self.feature = config.feature

    def __call__(self, coords: Num[Array, "*B T A"], grids: Num[Array, "*B T A"]) -> Float[Array, "*B T D"]:
        u, step = locate(self.coordinate, coords, grids, self.table.shape[0])
        return FEATURES[self.feature](self.table, u, step)


class Sinusoidal(eqx.Module):
    """combine_a waves(geometric frequencies, u_a), without parameters.   [NaViT, table 3]"""

    width: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    coordinate: str = eqx.field(static=True)
    combine: str = eqx.field(static=True)

    def __init__(self, config: config.Sinusoidal, width: int, *, key: PRNGKeyArray):
        self.width = 2 * width // config.pieces
        self.size = config.size
        self.coordinate = config.coordinate
        self.combine = config.combine

    def __call__(self, coords: Num[Array, "*B T A"], grids: Num[Array, "*B T A"]) -> Float[Array, "*B T D"]:
        u, _ = locate(self.coordinate, coords, grids, self.size)
        return COMBINE[self.combine]([waves(geometric(self.width), u_a) for u_a in by_axis(u)])


class Fourier(eqx.Module):
    """waves(learned frequencies A K, K = D/2, u): each wave has its own direction.   [NaViT, table 3]"""

    frequencies: Float[Array, "A K"]
    size: int = eqx.field(static=True)
    coordinate: str = eqx.field(static=True)

    def __init__(self, config: config.Fourier, width: int, *, key: PRNGKeyArray):
        self.frequencies = config.scale * jr.normal(key, (config.axes, width // config.pieces))
        self.size = config.size
        self.coordinate = config.coordinate

    def __call__(self, coords: Num[Array, "*B T A"], grids: Num[Array, "*B T A"]) -> Float[Array, "*B T D"]:
        u, _ = locate(self.coordinate, coords, grids, self.size)
        return waves(self.frequencies, u)


PosEmbed = Factorised | Joint | Sinusoidal | Fourier | Table


def make_posembed(posembed: config.PosEmbed, width: int, *, key: PRNGKeyArray) -> PosEmbed | None:
    """Initialize the position embedding of the configuration; None where there is none."""
    match posembed:
        case config.Factorised():
            return Factorised(posembed, width, key=key)
        case config.Joint():
            return Joint(posembed, width, key=key)
        case config.Sinusoidal():
            return Sinusoidal(posembed, width, key=key)
        case config.Fourier():
            return Fourier(posembed, width, key=key)
        case config.Table():
            return Table(posembed, width, key=key)
        case config.NoPositions():
            return None
