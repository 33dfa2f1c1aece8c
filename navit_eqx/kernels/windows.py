"""Attention in rows that are all cut into the same windows: one dense product per window, no mask.

`data.packing.rule=Template` makes such rows: an image keeps exactly as many tokens as its window has. The cost of a
token depends on its window and not on the length of the row.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..attention import dot_product_attention
from ..masks import SegmentMask


class WindowMask(SegmentMask):
    """1 for the tokens of a window that holds one image or padding alone; NaN for any other: a wrong row is seen."""

    valid: Float[Array, "*B T"]
    windows: tuple[int, ...] = eqx.field(static=True)

    def dot_product_attention(
        self, q: Float[Array, "*B H T K"], k: Float[Array, "*B H T K"], v: Float[Array, "*B H T K"], scale: float
    ) -> Float[Array, "*B H T K"]:
        v = v * self.valid[..., None, :, None].astype(v.dtype)
        mixed = [
            joined(dot_product_attention(*(cut(x, start, count, size) for x in (q, k, v)), None, scale))
            for start, count, size in runs(self.windows)
        ]
        return jnp.concatenate(mixed, -2)


def window_mask(segment_ids: Int[Array, "*B T"], windows: Sequence[int]) -> WindowMask:
    """Mask of rows that are cut into `windows`.   Raises ValueError where they do not add up to the row."""
    if sum(windows) != segment_ids.shape[-1]:
        raise ValueError(f"windows of {sum(windows)} tokens in all cannot be those of rows of {segment_ids.shape[-1]}")
    return WindowMask(jnp.where(fits_windows(segment_ids, windows), 1.0, jnp.nan).astype(jnp.float32), tuple(windows))


def fits_windows(segment_ids: Int[Array, "*B T"], windows: Sequence[int]) -> Bool[Array, "*B T"]:
    """Tokens of windows that hold one image or padding alone; no token of a row in which two windows share an image."""
    place = np.repeat(np.arange(len(windows)), windows)
    starts = np.cumsum(windows) - np.asarray(windows)
    first = segment_ids[..., starts]
    own = segment_ids == first[..., place]
    alone = jnp.stack([own[..., s : s + n].all(-1) for s, n in zip(starts, windows)], -1)
    shared = (first[..., :, None] == first[..., None, :]).sum(-1) > 1
    return (alone & ~(shared & (first > 0)).any(-1, keepdims=True))[..., place]


def runs(windows: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Start, number and size of neighbouring windows of one size."""
    start = 0
    for size, same in groupby(windows):
        count = len(list(same))
        yield start, count, size
        start += count * size


def cut(x: Float[Array, "*B H T K"], start: int, count: int, size: int) -> Float[Array, "*B H count size K"]:
    """`count` windows of `size` tokens from `start` on, on an axis of their own."""
    part = x[..., start : start + count * size, :]
    return part.reshape(*part.shape[:-2], count, size, part.shape[-1])


def joined(x: Float[Array, "*B H count size K"]) -> Float[Array, "*B H tokens K"]:
    """The inverse of `cut`."""
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])
