"""Two knobs that FlexiViT tried and left: how many blocks are run, and how far apart patches of one size are cut."""

from dataclasses import dataclass, fields

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from data.randomness import Purpose, generator
from data.rows import Picture, PlannedRows
from data.sampling.patch_size import PerImage
from navit_eqx import NaViT
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
        return (jnp.arange(depth)[:, None] < deep).astype(jnp.float32).reshape(depth, *image_ids.shape)


def first_blocks(model: NaViT, count: int) -> NaViT:
    """The model that ends after so many blocks."""
    arrays, rest = eqx.partition(model.encoder.blocks, eqx.is_array)
    cut = eqx.combine(jax.tree.map(lambda leaf: leaf[:count], arrays), rest)
    return eqx.tree_at(lambda m: m.encoder.blocks, model, cut)


@dataclass(frozen=True)
class Strides(PerImage):
    """A random distance between patches for every image; the patches are as large as the model's kernel."""


@dataclass
class WindowRows(PlannedRows):
    """Rows of overlapping patches: where the plan says a patch size, it is a stride."""

    def see(
        self, epoch: int, image_id: int, grid: Int[np.ndarray, " 2"], kept: int, patch_size: int
    ) -> tuple[Tokens, Picture]:
        """As in `PlannedRows`; no token is dropped."""
        rng = generator(Purpose.IMAGE, self.seed, epoch, image_id)
        picture = self.picture(rng, image_id, (int(grid[0]) * patch_size, int(grid[1]) * patch_size))
        patches = windows(picture.pixels, self.patch_size, patch_size)
        return Tokens(patches, raster(grid), np.asarray(grid, np.int32)), picture

    def stored(self, patches: UInt8[np.ndarray, "T Q"], patch_size: int) -> UInt8[np.ndarray, "T P"]:
        """Of an empty row."""
        return np.zeros((len(patches), 3 * self.patch_size**2), np.uint8)


def windowed(rows: PlannedRows) -> WindowRows:
    """The same rows, cut in windows."""
    return WindowRows(**{field.name: getattr(rows, field.name) for field in fields(rows)})


def windows(pixels: UInt8[np.ndarray, "h w 3"], size: int, stride: int) -> UInt8[np.ndarray, "T P"]:
    """Patches of `size` around the middle of each cell of side `stride` ≤ size; the border is repeated outwards."""
    before = (size - stride) // 2
    margin = (before, size - stride - before)
    padded = np.pad(pixels, (margin, margin, (0, 0)), mode="edge")
    cut = sliding_window_view(padded, (size, size), (0, 1))[::stride, ::stride]  # grid, channel, row, column
    return cut.transpose(0, 1, 3, 4, 2).reshape(-1, 3 * size**2)
