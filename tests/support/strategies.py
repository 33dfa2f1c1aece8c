"""The domain of the tests: images, packed rows, models. Structure by Hypothesis, numbers by a drawn seed.

Row shapes are fixed, contents are free: that is how the model is used, and nothing recompiles.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from hypothesis import strategies as st

from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.info import ModelInfo
from navit_eqx.model import NaViT
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import Model, abstract_model, is_shape
from reference.patches import raster
from reference.rows import Row, Tokens, pack

T, I = 24, 5
PATCH = (2, 2)
P = 3 * PATCH[0] * PATCH[1]
SIDE = 5  # longest grid side drawn; positions end at 6
CONFIG = ModelConfig(PATCH, width=16, depth=2, heads=2, mlp_width=24, posembed=Factorised(6), dtype="float64")
CLASSES = 7
TASK = Classify(classes=CLASSES)

seeds = st.integers(0, 2**32 - 1)
grids = st.tuples(st.integers(1, SIDE), st.integers(1, SIDE)).filter(lambda g: g[0] * g[1] <= T)


@dataclass(frozen=True)
class Packed:
    """A row, and the images in it."""

    row: Row
    images: list[Tokens]


def tokens_of(rng: np.random.Generator, grid: tuple[int, ...], keep: int | None = None, patch_dim: int = P) -> Tokens:
    """An image of random tokens; `keep` of them, if given, in raster order."""
    count = prod(grid)
    stay = np.sort(rng.permutation(count)[: keep or count])
    patches = rng.normal(size=(count, patch_dim))
    return Tokens(patches[stay], raster(grid)[stay], np.array(grid, np.int32))


@st.composite
def rows(draw, least: int = 0) -> Packed:
    """A row of T tokens with up to I images, some of which have dropped tokens; often with padding."""
    rng = np.random.default_rng(draw(seeds))
    images: list[Tokens] = []
    room = T
    for grid in draw(st.lists(grids, min_size=max(least, 1), max_size=I)):
        keep = draw(st.integers(1, grid[0] * grid[1]))
        if keep <= room:
            images.append(tokens_of(rng, grid, keep))
            room -= keep
    if len(images) < least:
        images = [tokens_of(rng, (1, 2)) for _ in range(least)]
    if draw(st.booleans()) and draw(st.booleans()) and not least:
        return Packed(empty_row(), [])
    return Packed(pack(images, range(len(images)), T, I), images)


def empty_row() -> Row:
    """Padding alone."""
    nobody = np.full(I, -1, np.int32)
    return Row(
        patches=np.zeros((T, P)),
        coords=np.zeros((T, 2), np.int32),
        segment_ids=np.zeros(T, np.int32),
        grids=np.zeros((I, 2), np.int32),
        image_ids=nobody,
    )


@eqx.filter_jit
def initialize(config: ModelConfig, seed: int) -> NaViT:
    """A fresh backbone; compiled, since one operation at a time takes seconds. For tests of the initialization."""
    return NaViT(config, key=jr.key(seed))


def filled(like, seed: int, dtype: str):
    """A module in which every parameter matters: none is zero or one. `like` has shapes in place of arrays. Made
    without compiling anything."""
    rng = np.random.default_rng(seed)

    def numbers(path, leaf):
        centre = 1.0 if path[-1].name.endswith("scale") else 0.0
        return jnp.asarray(centre + 0.25 * rng.normal(size=leaf.shape), dtype)

    arrays, static = eqx.partition(like, is_shape)
    return eqx.combine(jax.tree_util.tree_map_with_path(numbers, arrays), static)


@lru_cache
def backbone(seed: int = 0, config: ModelConfig = CONFIG) -> NaViT:
    """A float64 backbone."""
    return filled(eqx.filter_eval_shape(lambda key: NaViT(config, key=key), jr.key(0)), seed, "float64")


@lru_cache
def model(seed: int = 0, config: ModelConfig = CONFIG, task=TASK) -> Model:
    """A float64 model: a backbone with its task."""
    return filled(abstract_model(config, task), seed, "float64")


def random_model(config: ModelConfig, task, info: ModelInfo | None = None) -> Model:
    """A float32 model to save and to call, where its numbers do not matter; a fresh one takes seconds to compile."""
    return filled(abstract_model(config, task, info), 0, "float32")
