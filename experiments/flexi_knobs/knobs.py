"""Two knobs that FlexiViT tried and left: how many blocks are run, and how far apart patches of one size are cut."""

from dataclasses import dataclass, fields
from math import prod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray
from numpy.lib.stride_tricks import sliding_window_view

from data.randomness import Purpose, generator
from data.rows import Drawn, PlannedRows
from data.sampling.kinds import Patch
from data.sampling.patch_size import PerImage
from navit_eqx import Model, NaViT
from navit_eqx.config import ModelConfig
from reference.patches import raster
from reference.rows import Tokens


@dataclass(frozen=True)
class AnyDepth(ModelConfig):
    """A model that works after any number of its blocks."""


class ShallowOrDeep(NaViT):
    """Trained with a random number of blocks for each image; what follows the blocks is shared by all depths."""

    def gates(self, key: PRNGKeyArray, image_ids: Int[Array, "*B I"]) -> Float[Array, "L *B I"]:
        """1 for the blocks that an image is run through, the first d, and 0 for the others; d ~ U{1 … L}.

        Drawn from the image's number, as stochastic depth is; all blocks are computed, whatever d.
        """
        depth = self.encoder.depth
        deep = jax.vmap(lambda i: jr.randint(jr.fold_in(key, i), (), 1, depth + 1))(image_ids.reshape(-1))
        return (jnp.arange(depth)[:, None] < deep[None]).astype(jnp.float32).reshape(depth, *image_ids.shape)


def shallow_or_deep(config: ModelConfig, task: Any, *, key: PRNGKeyArray) -> Model:
    """A fresh `Model`, its backbone trained with a random number of blocks."""
    backbone = ShallowOrDeep(config, key=jr.split(key)[0])  # the parameters that `Model` draws
    return eqx.tree_at(lambda m: m.backbone, Model(config, task, key=key), backbone)


def first_blocks(model: Model, count: int) -> Model:
    """The model that ends after so many blocks."""
    arrays, rest = eqx.partition(model.backbone.encoder.blocks, eqx.is_array)
    cut = eqx.combine(jax.tree.map(lambda leaf: leaf[:count], arrays), rest)
    return eqx.tree_at(lambda m: m.backbone.encoder.blocks, model, cut)


@dataclass(frozen=True)
class Strides(PerImage):
    """A random distance between patches for every image; the patches are as large as the model's kernel."""


@dataclass
class WindowRows(PlannedRows):
    """Rows of overlapping patches: where the plan says a patch size, it is a stride."""

    def tokens(
        self, epoch: int, image_id: int, grid: Int[np.ndarray, " 2"], kept: int, patch: Patch
    ) -> tuple[Tokens, Drawn]:
        """As in `PlannedRows`; no token is dropped."""
        rng = generator(Purpose.IMAGE, self.seed, epoch, image_id)
        pixels, how = self.picture(rng, image_id, (int(grid[0]) * patch[0], int(grid[1]) * patch[1]))
        patches = windows(pixels, self.pixels.patch[0], patch[0])
        return Tokens(patches, raster(grid), np.asarray(grid, np.int32)), how

    def nothing(self, patch: Int[np.ndarray, " 2"]) -> Tokens:
        """No token, of the right shape."""
        none = np.zeros((0, self.pixels.channels * prod(self.pixels.patch)), np.uint8)
        return Tokens(none, np.zeros((0, 2), np.int32), np.zeros(2, np.int32))


def windowed(rows: PlannedRows) -> WindowRows:
    """The same rows, cut in windows."""
    return WindowRows(**{field.name: getattr(rows, field.name) for field in fields(rows)})


def windows(pixels: Num[np.ndarray, "h w C"], size: int, stride: int) -> Num[np.ndarray, "T P"]:
    """Patches of `size` around the middle of each cell of side `stride` ≤ size; the border is repeated outwards."""
    before = (size - stride) // 2
    margin = (before, size - stride - before)
    padded = np.pad(pixels, (margin, margin, (0, 0)), mode="edge")
    cut = sliding_window_view(padded, (size, size), (0, 1))[::stride, ::stride]  # grid, channel, row, column
    return cut.transpose(0, 1, 3, 4, 2).reshape(-1, pixels.shape[-1] * size**2)
