"""Clips as tubelets of several shapes in one row, all embedded by one kernel.

[NaViT, §3.6; TubeViT, arXiv:2212.03229]

A clip is an array (frame, row, column, channel), and the kernel of the model has a shape (frames, rows, columns). A
tubelet of any shape is mapped to the shape of the kernel by the adjoint of PI-resize along its three axes, so that rows
hold tubelets of every shape side by side.

A token of a clip has coords (s, t, y, x): the number of its shape, and the center of the tubelet in units of the
kernel, minus ½. A tubelet of the shape of the kernel has whole numbers, as a patch has; others have real numbers. The
grid of a clip is (number of shapes, frames, height, width), the last three in units of the kernel.

The model of clips is the model of images on other patches (`in_space`): time and shape are further entries of a patch.

    tokens = tubelets(normalized, (2, 8, 8), [(2, 8, 8), (4, 16, 16)], [(2, 8, 8), (4, 16, 16)])
    vector = forward_clip(params, tokens)
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Num

from . import model
from .posembed import learned, locate
from .resize import FLEXIVIT, Interpolation, adjoint_patches
from .rows import Row, Tokens

Shape = Sequence[int]
"""Frames, rows and columns of pixels."""


def starts(length: int, size: int, stride: int) -> Int[np.ndarray, " n"]:
    """First places of tubelets along an axis: as many as fit, `stride` apart, in the middle of the axis.

    Choice: what is left over is cut off on both sides equally, one place more at the end where it is odd.
    """
    count = (length - size) // stride + 1
    first = (length - size - (count - 1) * stride) // 2
    return first + stride * np.arange(count)


def capped(shape: Shape, space: Shape) -> tuple[int, ...]:
    """A shape, no larger than the clip along any axis, so that every clip has tokens of every shape.   Choice."""
    return tuple(min(n, length) for n, length in zip(shape, space))


def token_counts(
    spaces: Int[np.ndarray, "*N 3"], shapes: Sequence[Shape], strides: Sequence[Shape]
) -> Int[np.ndarray, "*N"]:
    """Tokens of clips of these frames, heights and widths: Σ_shapes Π_axes (⌊(length − size) / stride⌋ + 1)."""
    sizes = [np.minimum(spaces, shape) for shape in shapes]
    counts = [((spaces - size) // np.array(stride) + 1).prod(-1) for size, stride in zip(sizes, strides)]
    return np.sum(counts, axis=0)


def cut(
    clip: Num[np.ndarray, "f h w C"], shape: Shape, stride: Shape
) -> tuple[Num[np.ndarray, "T Q"], Int[np.ndarray, "T 3"]]:
    """Tubelets of one shape in raster order, flattened as (frame, row, column, channel), and their first places."""
    places = [starts(*axis) for axis in zip(clip.shape, shape, stride)]
    windows = np.lib.stride_tricks.sliding_window_view(clip, tuple(shape), axis=(0, 1, 2))
    blocks = np.moveaxis(windows[np.ix_(*places)], 3, -1)
    corners = np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, 3)
    return blocks.reshape(len(corners), -1), corners


def tubelets(
    clip: Float[np.ndarray, "f h w C"],
    base: Shape,
    shapes: Sequence[Shape],
    strides: Sequence[Shape],
    interpolation: Interpolation = FLEXIVIT,
) -> Tokens:
    """The tokens of a clip of normalized pixels, shape by shape, in the format of a kernel of shape `base`."""
    patches, coords = [], []
    for number, (shape, stride) in enumerate(zip(shapes, strides, strict=True)):
        size = capped(shape, clip.shape)
        blocks, corners = cut(clip, size, stride)
        patches.append(adjoint_patches(blocks, base, size, interpolation))
        centers = (corners + np.array(size) / 2) / base - 0.5
        coords.append(np.concatenate([np.full((len(corners), 1), number), centers], axis=-1))
    grid = np.array([len(shapes), *np.divide(clip.shape[:3], base)])
    return Tokens(np.concatenate(patches), np.concatenate(coords).astype(np.float32), grid.astype(np.float32))


def central(w: Float[np.ndarray, "P D"], frames: int) -> Float[np.ndarray, "Q D"]:
    """The kernel of a patch in the frame ⌊frames / 2⌋ of a tubelet, zeros elsewhere.   [NaViT, §3.6: central frame]"""
    return np.concatenate([w if frame == frames // 2 else 0 * w for frame in range(frames)])


def mean(w: Float[np.ndarray, "P D"], frames: int) -> Float[np.ndarray, "Q D"]:
    """The kernel of a patch over `frames` in every frame: PI-resize in time of a kernel of one frame."""
    return np.concatenate([w / frames] * frames)


INFLATIONS = {"central": central, "mean": mean}


def time_weights(
    params: dict, coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"]
) -> Float[np.ndarray, "T M"]:
    """Interpolation weights of the entries of the time table, at the center of each tubelet."""
    entries = np.eye(len(params["table"]))
    return learned(entries, *locate(params["coordinate"], coords[:, 1:2], grids[:, 1:2], len(entries)))


def in_space(params: dict, image: Tokens, grids: Num[np.ndarray, "T A"]) -> tuple[dict, Tokens]:
    """Parameters and tokens of clips in the form that `model` reads, patches with places (y, x).

    w · patch + table at t + vector of shape s = [w, table, vectors of shapes] · [patch, weights of t, one-hot s]
    Groups of attention keep the times: which tokens are of one frame.
    """
    time, embedding = params["time"], params["patch_embedding"]
    which = np.equal(image.coords[:, :1], np.arange(len(time["shapes"]))).astype(float)
    more = time_weights(time, image.coords, grids), which
    w = np.concatenate([embedding["w"], time["table"], time["shapes"]])
    tokens = Tokens(np.concatenate([image.patches, *more], -1), image.coords[:, 2:], image.grid[..., 2:])
    local = params["local"] and {**params["local"], "times": image.coords[:, 1]}
    return {**params, "local": local, "patch_embedding": {**embedding, "w": w}}, tokens


def forward_clip(params: dict, clip: Tokens) -> Float[np.ndarray, " D"]:
    """The meaning: a plain Vision Transformer on the tubelets of one clip."""
    return model.forward_image(*in_space(params, clip, np.broadcast_to(clip.grid, clip.coords.shape)))


def forward(params: dict, row: Row) -> Float[np.ndarray, "I D"]:
    """The mechanism: one vector per clip of a packed row; zeros for an empty slot."""
    real = (row.segment_ids > 0)[:, None]
    grids = np.where(real, row.grids[np.maximum(row.segment_ids, 1) - 1], 1)
    tokens = Tokens(np.where(real, row.patches, 0), np.where(real, row.coords, 0), row.grids)
    inner, (patches, coords, sizes) = in_space(params, tokens, grids)
    return model.forward(inner, row._replace(patches=patches, coords=coords, grids=sizes))
