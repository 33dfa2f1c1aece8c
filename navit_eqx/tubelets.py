"""Clips as tubelets of several shapes in one row, all embedded by one kernel.

[NaViT, §3.6; TubeViT, arXiv:2212.03229]

The host cuts clips and maps every tubelet to the shape of the kernel; the device adds the positions of time and shape.
Coords of a token: (shape, t, y, x), real numbers in units of the kernel; grid: (shapes, frames, height, width).
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from . import config
from .layers import expand
from .posembed import SPREAD, learned, locate
from .resize import FLEXIVIT, Interpolation, pi_matrix

Shape = Sequence[int]


def starts(length: int, size: int, stride: int) -> list[int]:
    """First places of tubelets along an axis: as many as fit, `stride` apart, in the middle of the axis."""
    places = list(range(0, length - size + 1, stride))
    return [place + (length - size - places[-1]) // 2 for place in places]


def capped(shape: Shape, space: Shape) -> tuple[int, ...]:
    """A shape, no larger than the clip along any axis, so that every clip has tokens of every shape."""
    return tuple(n if n < length else length for n, length in zip(shape, space))


def token_counts(
    spaces: Int[np.ndarray, "*N 3"], shapes: Sequence[Shape], strides: Sequence[Shape]
) -> Int[np.ndarray, "*N"]:
    """Tokens of clips of these frames, heights and widths."""
    count = lambda space: sum(
        int(np.prod([len(starts(*axis)) for axis in zip(space, capped(shape, space), stride)]))
        for shape, stride in zip(shapes, strides)
    )
    flat = [count(space) for space in spaces.reshape(-1, 3).tolist()]
    return np.array(flat, int).reshape(spaces.shape[:-1])


def cut(
    clip: Num[np.ndarray, "f h w C"], shape: Shape, stride: Shape
) -> tuple[Num[np.ndarray, "T Q"], Int[np.ndarray, "T 3"]]:
    """Tubelets of one shape in raster order, flattened as (frame, row, column, channel), and their first places."""
    frames, rows, columns = (starts(*axis) for axis in zip(clip.shape, shape, stride))
    corners = [(f, y, x) for f in frames for y in rows for x in columns]
    f, h, w = shape
    blocks = [clip[t : t + f, y : y + h, x : x + w].ravel() for t, y, x in corners]
    return np.stack(blocks), np.array(corners)


def tubelets(
    clip: Float[np.ndarray, "f h w C"],
    base: Shape,
    shapes: Sequence[Shape],
    strides: Sequence[Shape],
    interpolation: Interpolation = FLEXIVIT,
) -> tuple[Float[np.ndarray, "T P"], Float[np.ndarray, "T 4"], Float[np.ndarray, " 4"]]:
    """Patches, coords and grid of a clip of normalized pixels, shape by shape, for a kernel of shape `base`."""
    patches, coords = [], []
    for number, (shape, stride) in enumerate(zip(shapes, strides, strict=True)):
        size = capped(shape, clip.shape)
        blocks, corners = cut(clip, size, stride)
        k = [pi_matrix(old, new, interpolation) for old, new in zip(base, size)]
        mapped = np.einsum("tabcn,ai,bj,ck->tijkn", blocks.reshape(len(blocks), *size, -1), *k, optimize=True)
        patches.append(mapped.reshape(len(blocks), -1))
        coords += [(number, *((a + n / 2) / b - 0.5 for a, n, b in zip(corner, size, base))) for corner in corners]
    grid = (len(shapes), *(n / b for n, b in zip(clip.shape, base)))
    return np.concatenate(patches), np.array(coords, np.float32), np.array(grid, np.float32)


def central(w: Float[Array, "P D"], frames: int) -> Float[Array, "Q D"]:
    """The kernel of a patch in the frame ⌊frames / 2⌋ of a tubelet, zeros elsewhere.   [NaViT, §3.6: central frame]"""
    before = frames // 2
    return jnp.pad(w, ((before * len(w), (frames - before - 1) * len(w)), (0, 0)))


def mean(w: Float[Array, "P D"], frames: int) -> Float[Array, "Q D"]:
    """The kernel of a patch over `frames` in every frame: PI-resize in time of a kernel of one frame."""
    return jnp.tile(w, (frames, 1)) / frames


INFLATIONS = {"central": central, "mean": mean}


class TimeEmbedding(eqx.Module):
    """Σ_m tent(t)_m table_m + vector of the shape of the tubelet.

    Choice: the vectors of shapes are zero at first; the table too, where a model of clips starts from one of images.
    """

    table: Float[Array, "M D"]
    shapes: Float[Array, "shapes D"]
    coordinate: str = eqx.field(static=True)

    def __init__(self, config: config.ModelConfig, *, key: PRNGKeyArray):
        assert config.tubelets is not None
        self.table = SPREAD * jr.normal(key, (config.tubelets.size, config.width))
        self.shapes = jnp.zeros((len(config.tubelet_shapes), config.width))
        self.coordinate = config.tubelets.coordinate

    def __call__(self, coords: Num[Array, "*B T 4"], grids: Num[Array, "*B T 4"]) -> Float[Array, "*B T D"]:
        u, step = locate(self.coordinate, coords[..., 1:2], grids[..., 1:2], len(self.table))
        which = coords[..., :1].astype(float)
        one_hot = (which == expand(jnp.arange(len(self.shapes), dtype=which.dtype), which)).astype(self.shapes.dtype)
        return learned(self.table, u, step) + one_hot @ self.shapes


def make_time(config: config.ModelConfig, *, key: PRNGKeyArray) -> TimeEmbedding | None:
    """Initialize the embedding of time and shape; None for a model of images."""
    return TimeEmbedding(config, key=key) if config.tubelets else None
