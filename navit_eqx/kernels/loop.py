"""Attention image by image, in a loop: what a CPU likes, where small products run as fast as large ones.

An image is cut out of its row in the smallest of a few windows that holds it, dense attention runs in there, and its
tokens are put back; whoever else stands in the window is masked. The gradient cuts out the same windows and computes
the weights again, so that those of one window exist at a time and none are kept.

A window's size belongs to the program, so that there is one loop for each size, over the images that need it.
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

MULTIPLE = 8  # of which windows are, as vectors are


class LoopMask(SegmentMask):
    """Where the image of each slot stands in its row; T, 0 where the slot is empty."""

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
    """The images of a batch, to be looked at through windows of `count` sizes."""
    return LoopMask(segment_ids, *spans(segment_ids, slots), sizes(segment_ids.shape[-1], count))


def sizes(length: int, count: int) -> tuple[int, ...]:
    """Tokens in each window: in equal steps up to the whole row."""
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
    """softmax(q kᵀ · scale) v among the tokens of each image; `where`: `segment_ids`, `start`, `end` of `LoopMask`."""

    def outputs(mine: Array, q: Array, k: Array, v: Array) -> tuple[Array, ...]:
        return (dot_product_attention_fwd(q, k, v, mine, scale)[0],)

    return each_image(outputs, (q, k, v), 1, where, windows)[0]


def _forward(q, k, v, where, scale, windows) -> tuple[Array, tuple]:
    return looped(q, k, v, where, scale, windows), (q, k, v, where)


def _backward(scale: float, windows: tuple[int, ...], kept: tuple, g: Array) -> tuple[Array | None, ...]:
    *qkv, where = kept

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
    """f(who is of the image, windows of the arrays) of every image, put together to `count` arrays; 0 for padding."""
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
    """Images by the size of the window that they need, empty slots last; and where those of each window begin."""
    too_small = (end - start)[:, None] > jnp.asarray(windows, jnp.int32)
    need = jnp.where(end > 0, too_small.sum(-1, dtype=jnp.int32), len(windows))
    first = (need[:, None] < jnp.arange(len(windows) + 1, dtype=jnp.int32)).sum(0, dtype=jnp.int32)
    return jnp.argsort(need).astype(jnp.int32), first


def window_of(x: Float[Array, "B H T K"], i: Array, corner: tuple[Array, ...], size: int) -> Float[Array, "H size K"]:
    """A window of one row.

    Tied to the number of the iteration: of a window that is a whole row and the only one, the compiler would compute
    attention before the loop, even if no image needs it.
    """
    window = jax.lax.dynamic_slice(x, corner, (1, x.shape[1], size, x.shape[3]))[0]
    return jax.lax.optimization_barrier((window, i))[0]


def put(
    x: Float[Array, "B H T K"], mine: Bool[Array, " size"], new: Float[Array, "H size K"], corner: tuple[Array, ...]
) -> Float[Array, "B H T K"]:
    """x with the tokens of an image replaced by those of its window."""
    old = jax.lax.dynamic_slice(x, corner, (1, *new.shape))[0]
    return jax.lax.dynamic_update_slice(x, jnp.where(mine[:, None], new, old)[None], corner)
