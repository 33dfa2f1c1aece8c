"""What the tests of position embeddings share: every kind on both sides, in float64."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from navit_eqx import posembed as fast
from navit_eqx.config import Factorised, Fourier, Joint, PosEmbed, Sinusoidal, Table
from navit_eqx.weights.bridge import to_reference
from reference import posembed as slow
from reference.patches import raster
from tests.support.tolerances import STEP

T, M, WIDTH = 24, 6, 24


PAPER = {
    "learned 1-D": Joint(4),
    "learned 2-D": Joint(M, "absolute", "learned"),
    "factorised sum": Factorised(M),
    "factorised stack": Factorised(M, combine="stack"),
    "factorised product": Factorised(M, combine="product"),
    "sinusoidal": Sinusoidal(),
    "fourier": Fourier(),
    "factorised fractional": Factorised(M, "fractional"),
    "sinusoidal fractional": Sinusoidal(M, "fractional"),
    "fourier fractional": Fourier(M, "fractional"),
}


MORE = {
    "factorised aspect": Factorised(M, "fractional_aspect", combine="product"),
    "factorised resized": Factorised(4, "fractional", "resized", "stack"),
    "joint aspect": Joint(4, "fractional_aspect"),
    "sinusoidal aspect": Sinusoidal(M, "fractional_aspect", "sum"),
    "fourier aspect": Fourier(M, "fractional_aspect"),
    "table cubic": Table(4),
    "table cubic antialiased, aspect": Table(4, "cubic_antialias", aspect=True),
    "table linear corners": Table(4, "linear", "corners"),
    "table linear antialiased": Table(M, "linear_antialias"),
    "table buckets": Table(5, "bucket"),
}


OTHER_AXES = ("learned 1-D", "factorised stack", "sinusoidal", "fourier fractional")


CONFIGS = {f"{name}, 2 axes": config for name, config in (PAPER | MORE).items()} | {
    f"{name}, {axes} axes": dataclasses.replace(PAPER[name], axes=axes) for name in OTHER_AXES for axes in (1, 3)
}


def module(config: PosEmbed, width: int = WIDTH):
    """An embedding in float64 with parameters that all differ."""
    rng = np.random.default_rng(0)
    like = eqx.filter_eval_shape(fast.make_posembed, config, width, key=jr.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), like)


MODULES = {name: module(config) for name, config in CONFIGS.items()}


PARAMS = {name: to_reference(layer) for name, layer in MODULES.items()}


def tokens(seed, axes, side=M):
    """Coordinates of tokens, each with a grid of its own."""
    rng = np.random.default_rng(seed)
    grids = rng.integers(1, side + 1, (T, axes)).astype(np.int32)
    return rng.integers(0, grids).astype(np.int32), grids


def whole(grid):
    """Every token of one image."""
    coords = raster(grid)
    return coords, np.broadcast_to(np.array(grid, np.int32), coords.shape)


def embed(name, coords, grids):
    """The embedding in the reference."""
    return slow.posembed(PARAMS[name], coords, grids)


@eqx.filter_jit
def run(layers, coords, grids, weights):
    """Value of each embedding, and gradient of Σ weights · value."""

    def total(layers):
        values = {name: layer(coords, grids) for name, layer in layers.items()}
        return sum((weights * value).sum() for value in values.values()), values

    gradients, values = eqx.filter_grad(total, has_aux=True)(layers)
    return values, gradients


def backend(coords, grids, weights=None):
    """Values and gradients of all embeddings for as many axes, by name."""
    axes = coords.shape[-1]
    weights = np.zeros((T, WIDTH)) if weights is None else weights
    layers = {name: layer for name, layer in MODULES.items() if CONFIGS[name].axes == axes}
    return run(layers, *map(jnp.asarray, (coords, grids, weights)))


def slope(name, parameter, direction, coords, grids, weights):
    """Central difference of Σ weights · value in the reference."""
    ends = []
    for step in (STEP, -STEP):
        params = PARAMS[name] | {parameter: PARAMS[name][parameter] + step * direction}
        ends.append((weights * slow.posembed(params, coords, grids)).sum())
    return (ends[0] - ends[1]) / (2 * STEP)
