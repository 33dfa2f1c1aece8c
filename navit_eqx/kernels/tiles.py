"""Attention that skips tiles without common images: Pallas kernels, compiled by Triton.

A row is divided into N tiles of tokens. The tokens of an image are close together, so a tile of queries needs only the
tiles of keys from the start of its first image to the end of its last one. These bounds, two numbers per tile, are
computed once per step, and the loops of the kernels run between them. The mask is symmetric, so the same bounds serve
the forward pass, the gradient of queries, and the gradients of keys and values. Softmax is computed online over tiles,
with maximum and sum in float32 [FlashAttention, arXiv:2205.14135]; no array of all pairs is stored.

q, k, v: *B H T K outside, B T H K inside · bounds: *B N 2
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Int

from ..layers import full
from ..masks import SegmentMask, spans
from .per_device import padded, shard_over_rows

LOWEST = -1e30  # initial maximum of the logits, finite to avoid ∞ − ∞
SMALLEST_DOT = 16  # columns of the smallest matrix product in Triton


class TileMask(SegmentMask):
    """Segment ids, padded to a multiple of the tile, and the bounds of each tile."""

    segment_ids: Int[Array, "*B padded_T"]
    bounds: Int[Array, "*B N 2"]
    tile: int = eqx.field(static=True)
    interpret: bool = eqx.field(static=True)

    def dot_product_attention(
        self, q: Float[Array, "*B H T K"], k: Float[Array, "*B H T K"], v: Float[Array, "*B H T K"], scale: float
    ) -> Float[Array, "*B H T K"]:
        def rows(q, k, v, ids, bounds):
            size = max(SMALLEST_DOT, pl.next_power_of_2(q.shape[-1]))
            inside = (padded(x.swapaxes(1, 2), {1: ids.shape[-1], 3: size}) for x in (q, k, v))
            out: Any = tiled(*inside, ids, bounds, scale, self.tile, self.interpret)
            return out[:, : q.shape[2], :, : q.shape[3]].swapaxes(1, 2)

        return shard_over_rows(rows, q, k, v, self.segment_ids, self.bounds)


def tile_mask(segment_ids: Int[Array, "*B T"], slots: int, tile: int, interpret: bool | None = None) -> TileMask:
    """Mask of a batch. `interpret` runs the kernels as plain JAX; by default on a CPU."""
    length = segment_ids.shape[-1]
    ids = padded(segment_ids, {segment_ids.ndim - 1: -(-length // tile) * tile})
    interpret = jax.default_backend() == "cpu" if interpret is None else interpret
    return TileMask(ids, bounds(ids, slots, tile), tile, interpret)


def bounds(segment_ids: Int[Array, "*B T"], slots: int, tile: int) -> Int[Array, "*B N 2"]:
    """First tile of the images in each tile, and one past their last tile; 0, 0 for a tile of padding.

    The range covers everything between the first and the last token of an image, so that an image need not be
    contiguous (registers are not). T must be a multiple of the tile.
    """
    length, slot = segment_ids.shape[-1], jnp.maximum(segment_ids, 1) - 1
    start, end = (jnp.take_along_axis(edge, slot, axis=-1) for edge in spans(segment_ids, slots))
    real = segment_ids > 0
    start, end = jnp.where(real, start, length), jnp.where(real, end, 0)
    by_tile = (*segment_ids.shape[:-1], length // tile, tile)
    hi = -(-end.reshape(by_tile).max(-1) // tile)
    return jnp.stack([jnp.minimum(start.reshape(by_tile).min(-1) // tile, hi), hi], axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def tiled(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H K"],
    segment_ids: Int[Array, "B T"],
    bounds: Int[Array, "B N 2"],
    scale: float,
    tile: int,
    interpret: bool,
) -> Float[Array, "B T H K"]:
    """Σ_s softmax_s(q k · scale) v over the tokens of the same image; 0 for padding."""
    return _forward(q, k, v, segment_ids, bounds, scale, tile, interpret)[0]


def _forward(q, k, v, segment_ids, bounds, scale: float, tile: int, interpret: bool) -> tuple[Array, tuple[Array, ...]]:
    batch, length, heads, _ = q.shape
    out, norm = _call(
        partial(forward_kernel, scale=scale, tile=tile),
        *(segment_ids, bounds, q, k, v),
        outputs=[q, jax.ShapeDtypeStruct((batch, heads, length), full(q).dtype)],
        tile=tile,
        interpret=interpret,
    )
    return out, (q, k, v, segment_ids, bounds, out, norm)


def _backward(scale: float, tile: int, interpret: bool, residuals: tuple, g: Array) -> tuple[Array | None, ...]:
    q, k, v, segment_ids, bounds, out, norm = residuals
    drift = (full(out) * full(g)).sum(-1).swapaxes(1, 2)  # Σ_s w ∘ dW of each query: B H T
    dq, dk, dv = _call(
        partial(backward_kernel, scale=scale, tile=tile),
        *(segment_ids, bounds, q, k, v, g, norm, drift),
        outputs=[q, k, v],
        tile=tile,
        interpret=interpret,
    )
    return dq, dk, dv, None, None


tiled.defvjp(_forward, _backward)


def forward_kernel(ids_ref, bounds_ref, q_ref, k_ref, v_ref, out_ref, norm_ref, *, scale: float, tile: int) -> None:
    """Outputs of one tile of queries of one head, and log Σ exp of their logits for the backward pass."""
    here = pl.ds(pl.program_id(0) * tile, tile)
    mine, q = ids_ref[here], q_ref[here, :]
    kind = full(q).dtype

    def visit(j, carry):
        out, top, total = carry
        there = pl.ds(j * tile, tile)
        may = same(mine, ids_ref[there])
        logits = jnp.where(may, scale * product(q, k_ref[there, :].T), LOWEST)
        top_now = jnp.maximum(top, logits.max(-1))
        weights = jnp.where(may, jnp.exp(logits - top_now[:, None]), 0)
        shrink = jnp.exp(top - top_now)
        out = shrink[:, None] * out + product(weights.astype(q.dtype), v_ref[there, :])
        return out, top_now, shrink * total + weights.sum(-1)

    nothing = jnp.zeros(q.shape, kind), jnp.full(tile, LOWEST, kind), jnp.zeros(tile, kind)
    out, top, total = between(bounds_ref, visit, nothing)
    total = jnp.where(total > 0, total, 1)
    out_ref[here, :] = (out / total[:, None]).astype(q.dtype)
    norm_ref[here] = top + jnp.log(total)


def backward_kernel(
    ids_ref, bounds_ref, q_ref, k_ref, v_ref, g_ref, norm_ref, drift_ref, dq_ref, dk_ref, dv_ref, *, scale, tile
) -> None:
    """Gradients of one tile of one head, as keys and values, then as queries.

    w = exp(logits − norm), dS = w ∘ (dW − drift).
    """
    here = pl.ds(pl.program_id(0) * tile, tile)
    mine, q, k, v, g = ids_ref[here], q_ref[here, :], k_ref[here, :], v_ref[here, :], g_ref[here, :]
    zeros = jnp.zeros(q.shape, full(q).dtype)

    def as_keys(j, carry):
        """Add the gradients from the queries of tile j; arrays are keys x queries."""
        dk, dv = carry
        there = pl.ds(j * tile, tile)
        q_there, g_there = q_ref[there, :], g_ref[there, :]
        logits = scale * product(k, q_there.T) - norm_ref[there][None, :]
        weights = jnp.where(same(mine, ids_ref[there]), jnp.exp(logits), 0)
        dlogits = weights * (product(v, g_there.T) - drift_ref[there][None, :])
        dk += product(dlogits.astype(q.dtype), q_there)
        dv += product(weights.astype(q.dtype), g_there)
        return dk, dv

    dk, dv = between(bounds_ref, as_keys, (zeros, zeros))
    dk_ref[here, :] = (scale * dk).astype(q.dtype)
    dv_ref[here, :] = dv.astype(q.dtype)
    norm, drift = norm_ref[here], drift_ref[here]

    def as_queries(j, dq):
        """Add the gradient from the keys of tile j; arrays are queries x keys."""
        there = pl.ds(j * tile, tile)
        k_there = k_ref[there, :]
        logits = scale * product(q, k_there.T) - norm[:, None]
        weights = jnp.where(same(mine, ids_ref[there]), jnp.exp(logits), 0)
        dlogits = weights * (product(g, v_ref[there, :].T) - drift[:, None])
        return dq + product(dlogits.astype(q.dtype), k_there)

    dq_ref[here, :] = (scale * between(bounds_ref, as_queries, zeros)).astype(q.dtype)


def between(bounds_ref: Any, visit: Any, carry: Any) -> Any:
    """Loop `visit` over the tiles within the bounds; other tiles are never read."""
    return jax.lax.fori_loop(bounds_ref[0], bounds_ref[1], visit, carry)


def same(mine: Int[Array, " n"], others: Int[Array, " m"]) -> Array:
    """Pairs of tokens of the same image."""
    return (mine[:, None] == others[None, :]) & (mine > 0)[:, None]


def product(a: Array, b: Array) -> Array:
    """a b, summed in float32 or better."""
    return jnp.dot(a, b, preferred_element_type=full(a).dtype)


def _call(kernel: Any, *arrays: Array, outputs: list[Any], tile: int, interpret: bool) -> Any:
    """Run a kernel for each (tile, row, head); each program reads its row and head, and the bounds of its tile."""
    batch, length, heads, size = outputs[0].shape
    full_row = {
        2: pl.BlockSpec((None, length), lambda n, b, h: (b, 0)),
        3: pl.BlockSpec((None, None, length), lambda n, b, h: (b, h, 0)),
        4: pl.BlockSpec((None, length, None, size), lambda n, b, h: (b, 0, h, 0)),
    }
    ids, bounds, *rest = arrays
    of_tile = pl.BlockSpec((None, None, 2), lambda n, b, h: (b, n, 0))
    return pl.pallas_call(
        kernel,
        grid=(length // tile, batch, heads),
        in_specs=[full_row[2], of_tile, *(full_row[x.ndim] for x in rest)],
        out_specs=[full_row[len(x.shape)] for x in outputs],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in outputs],
        compiler_params=triton.CompilerParams(num_warps=4 if size <= 64 else 8, num_stages=2),
        interpret=interpret,
        name=kernel.func.__name__,
    )(ids, bounds, *rest)
