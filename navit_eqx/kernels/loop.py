"""Attention image by image, in a loop: fast on CPUs, where small matrix products are as efficient as large ones.

For each image, the smallest of a few windows of the row that holds it is sliced out, dense attention runs in the window
with tokens of other images masked, and the outputs are written back. The backward pass slices the same windows and
recomputes the weights, so that only the weights of one window exist at a time.

The size of a window is static, so there is one loop for each size, over the images that need it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..attention import dot_product_attention_bwd, dot_product_attention_fwd
from ..masks import SegmentMask, spans
from .per_device import shard_over_rows

MULTIPLE = 8  # windows are multiples of the vector width


class LoopMask(SegmentMask):
    """Start and end of the image of each slot in its row; T, 0 where the slot is empty."""

    segment_ids: Int[Array, "*B T"]
    start: Int[Array, "*B I"]
    end: Int[Array, "*B I"]
    windows: tuple[int, ...] = eqx.field(static=True)

    def dot_product_attention(
        self, q: Float[Array, "*B H T K"], k: Float[Array, "*B H T K"], v: Float[Array, "*B H T K"], scale: float
    ) -> Float[Array, "*B H T K"]:
        def rows(q, k, v, *where) -> Any:
            return looped(q, k, v, where, scale, self.windows)

        return shard_over_rows(rows, q, k, v, self.segment_ids, self.start, self.end)


def loop_mask(segment_ids: Int[Array, "*B T"], slots: int, count: int) -> LoopMask:
    """Mask of a batch, with windows of `count` sizes."""
    return LoopMask(segment_ids, *spans(segment_ids, slots), sizes(segment_ids.shape[-1], count))


def sizes(length: int, count: int) -> tuple[int, ...]:
    """Tokens per window, in equal steps up to the row length."""
    steps = (-(-length * i // (count * MULTIPLE)) * MULTIPLE for i in range(1, count))
    return *sorted({size for size in steps if size < length}), length


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def looped(
    q: Float[Array, "B H T K"],
    k: Float[Array, "B H T K"],
    v: Float[Array, "B H T K"],
    where: tuple[Array, ...],
    scale: float,
    windows: tuple[int, ...],
) -> Float[Array, "B H T K"]:
    """softmax(q kᵀ · scale) v within each image; `where` are `segment_ids`, `start` and `end` of `LoopMask`."""

    def outputs(mine: Array, q: Array, k: Array, v: Array) -> tuple[Array, ...]:
        return (dot_product_attention_fwd(q, k, v, mine, scale)[0],)

    return each_image(outputs, (q, k, v), 1, where, windows)[0]


def _forward(q, k, v, where, scale, windows) -> tuple[Array, tuple]:
    return looped(q, k, v, where, scale, windows), (q, k, v, where)


def _backward(scale: float, windows: tuple[int, ...], residuals: tuple, g: Array) -> tuple[Array | None, ...]:
    *qkv, where = residuals

    def gradients(mine: Array, q: Array, k: Array, v: Array, g: Array) -> tuple[Array, ...]:
        weights = dot_product_attention_fwd(q, k, v, mine, scale)[1]
        return dot_product_attention_bwd(scale, weights, jnp.where(mine[:, None], g, 0))

    return *each_image(gradients, (*qkv, g), 3, where, windows), None


looped.defvjp(_forward, _backward)


def each_image(
    f: Callable[..., tuple[Array, ...]],
    arrays: tuple[Float[Array, "B H T K"], ...],
    count: int,
    where: tuple[Array, ...],
    windows: tuple[int, ...],
) -> tuple[Float[Array, "B H T K"], ...]:
    """f(tokens of the image, windows of the arrays) for every image, written to `count` arrays; 0 for padding."""
    segment_ids, start, end = where
    slots, length = start.shape[-1], segment_ids.shape[-1]
    order, first = by_need(start.reshape(-1), end.reshape(-1), windows)

    def one(i: Array, out: tuple[Array, ...], size: int) -> tuple[Array, ...]:
        row, slot = jnp.divmod(order[i], slots)
        place, zero = jnp.minimum(start[row, slot], length - size), jnp.int32(0)
        mine = jax.lax.dynamic_slice(segment_ids, (row, place), (1, size))[0] == slot + 1
        corner = row, zero, place, zero
        new = f(mine, *(window_of(x, i, corner, size) for x in arrays))
        return tuple(put(x, mine, y, corner) for x, y in zip(out, new, strict=True))

    out = (jnp.zeros_like(arrays[0]),) * count
    for number, size in enumerate(windows):
        out = jax.lax.fori_loop(first[number], first[number + 1], partial(one, size=size), out)
    return out


def by_need(
    start: Int[Array, " N"], end: Int[Array, " N"], windows: tuple[int, ...]
) -> tuple[Int[Array, " N"], Int[Array, " windows_and_one"]]:
    """Slots sorted by the window size that they need, empty slots last; and the first index of each window size."""
    too_small = (end - start)[:, None] > jnp.asarray(windows, jnp.int32)[None]
    need = jnp.where(end > 0, too_small.sum(-1, dtype=jnp.int32), len(windows))
    first = (need[:, None] < jnp.arange(len(windows) + 1, dtype=jnp.int32)[None]).sum(0, dtype=jnp.int32)
    return jnp.argsort(need).astype(jnp.int32), first


def window_of(x: Float[Array, "B H T K"], i: Array, corner: tuple[Array, ...], size: int) -> Float[Array, "H size K"]:
    """A window of one row.

    The barrier ties it to the loop index i: if the only window is the full row, the compiler would otherwise hoist
    attention out of the loop, even if no image needs it.
    """
    window = jax.lax.dynamic_slice(x, corner, (1, x.shape[1], size, x.shape[3]))[0]
    return jax.lax.optimization_barrier((window, i))[0]


def put(
    x: Float[Array, "B H T K"], mine: Bool[Array, " size"], new: Float[Array, "H size K"], corner: tuple[Array, ...]
) -> Float[Array, "B H T K"]:
    """x with the tokens of one image (`mine`) replaced by `new`, the values of its window."""
    old = jax.lax.dynamic_slice(x, corner, (1, *new.shape))[0]
    return jax.lax.dynamic_update_slice(x, jnp.where(mine[:, None], new, old)[None], corner)
