"""Fuzzy positions: in training the coordinates of tokens are moved at random, in evaluation they are exact.

[ViTAR, arXiv:2403.18361: noise of each token, up to half a patch; DINOv3, arXiv:2508.10104: shift and rescaling of all
coordinates of an image]
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from .config_positions import Fuzzy
from .rows import Row

SIDE = 1 << 16  # cells of a side that have noise of their own


def move(
    coords: Num[Array, "*B T A"],
    grids: Num[Array, "*B T A"],
    noise: Float[Array, "*B T A"],
    shift: Float[Array, "*B T A"],
    scale: Float[Array, "*B T 1"],
) -> Float[Array, "*B T A"]:
    """x' = s (x + ½ − n/2) + (1 + shift) n/2 − ½ + noise: about the center of the image, in patches."""
    half = grids.astype(float) / 2
    return scale * (coords.astype(float) + 0.5 - half) + (1 + shift) * half - 0.5 + noise


def sample_moves(
    key: PRNGKeyArray, image_ids: Int[Array, "*B T"], coords: Int[Array, "*B T 2"], fuzzy: Fuzzy
) -> tuple[Float[Array, "*B T 2"], Float[Array, "*B T 2"], Float[Array, "*B T 1"]]:
    """Noise of each token, shift and scale of its image.

    Keys are folded from the image id and the cell of the grid, so that packing, dropping and the number of devices do
    not change them; the key of a step follows from seed and step, so that a resumed run draws the same.
    """

    def one(image: Array, cell: Array) -> tuple[Array, Array, Array]:
        noise, shift, scale = jr.split(jr.fold_in(key, image), 3)
        return (
            fuzzy.jitter * symmetric(jr.fold_in(noise, cell), 2),
            fuzzy.shift * symmetric(shift, 2),
            fuzzy.rescale ** symmetric(scale, 1),
        )

    cells = coords[..., 0] * SIDE + coords[..., 1]
    drawn = jax.vmap(one)(image_ids.reshape(-1), cells.reshape(-1))
    noise, shift, scale = (values.reshape(*cells.shape, values.shape[-1]) for values in drawn)
    return noise, shift, scale


def symmetric(key: PRNGKeyArray, count: int) -> Float[Array, " n"]:
    """Uniform in [−1, 1)."""
    return jr.uniform(key, (count,), jnp.float32, -1, 1).astype(float)  # the same draws in float64


def fuzzy_row(row: Row, fuzzy: Fuzzy, key: PRNGKeyArray) -> Row:
    """The row with moved coordinates."""
    slot = jnp.maximum(row.segment_ids, 1) - 1
    grids = jnp.take_along_axis(row.grids, slot[..., None], axis=-2)
    image_ids = jnp.take_along_axis(row.image_ids, slot, axis=-1)
    moves = sample_moves(jr.fold_in(key, 1), image_ids, row.coords, fuzzy)
    return row._replace(coords=move(row.coords, grids, *moves))
