"""Attention backends for packed rows: one signature, several implementations.

    loop.py        image by image, for CPUs
    windows.py     rows cut into windows that are known when the program is compiled
    tiles.py       Pallas kernels for GPUs
    cudnn.py       cuDNN's fused attention
    splash.py      JAX's splash attention for TPUs
    per_device.py  kernels over rows, sharded over devices

`attention_mask` converts segment ids to the mask of a backend, once per step; `attention.attend` applies it in every
block to q, k, v: *B H T K. Every backend must agree with the dense mask. Limits of each: docs/attention.md.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Bool, Float, Int

from ..attention import attend
from ..config import Auto, Backend, CuDNN, Dense, Loop, Pallas, Splash, Windows
from ..masks import SegmentMask, same_image

# Backends are imported when they are used: they need parts of JAX that are slow to import, experimental or private.


def _tile_mask(backend: Pallas, segment_ids: Array, slots: int) -> SegmentMask:
    from .tiles import tile_mask

    return tile_mask(segment_ids, slots, backend.tile)


def _loop_mask(backend: Loop, segment_ids: Array, slots: int) -> SegmentMask:
    from .loop import loop_mask

    return loop_mask(segment_ids, slots, backend.windows)


def _window_mask(backend: Windows, segment_ids: Array, slots: int) -> SegmentMask:
    from .windows import window_mask

    return window_mask(segment_ids, backend.sizes)


def _cudnn_mask(backend: CuDNN, segment_ids: Array, slots: int) -> SegmentMask:
    from .cudnn import cudnn_mask

    return cudnn_mask(segment_ids, slots)


def _splash_mask(backend: Splash, segment_ids: Array, slots: int) -> SegmentMask:
    from .splash import splash_mask

    return splash_mask(segment_ids, slots, backend.longest, backend.block)


def _dense_mask(backend: Auto | Dense, segment_ids: Array, slots: int) -> Array:
    return same_image(segment_ids)


TABLE: dict[type, Callable[[Any, Array, int], Array | SegmentMask]] = {
    Auto: _dense_mask,  # unless training chose another one by timing
    Dense: _dense_mask,
    Loop: _loop_mask,
    Windows: _window_mask,
    Pallas: _tile_mask,
    CuDNN: _cudnn_mask,
    Splash: _splash_mask,
}


def attention_mask(
    backend: Backend, segment_ids: Int[Array, "*B T"], slots: int
) -> Bool[Array, "*B T T"] | SegmentMask:
    """The self-attention mask of packed rows, in the form that the backend reads."""
    return TABLE[type(backend)](backend, segment_ids, slots)


def packed_attention(
    backend: Backend,
    q: Float[Array, "*B H T K"],
    k: Float[Array, "*B H T K"],
    v: Float[Array, "*B H T K"],
    segment_ids: Int[Array, "*B T"],
    slots: int,
    scale: float,
) -> Float[Array, "*B H T K"]:
    """softmax(q kᵀ · scale) v, where each token attends to the tokens of its image; 0 for padding."""
    return attend(q, k, v, attention_mask(backend, segment_ids, slots), scale)
