"""A hierarchy of stages: after each stage but the last, the four tokens of a 2 x 2 quad become one.

[Hiera, arXiv:2306.00989: tokens in the order of their quads; Swin, arXiv:2103.14030: growing widths]

Rows store the tokens of an image by blocks, within a block in Z-order (`block_order`), so that merging is one reshape:
row lengths are static, nothing is gathered, and there is one compiled program for any sizes of images.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .config import ModelConfig, NoPositions
from .config_stages import mapped_channels
from .encoder import Encoder, token_gates
from .errors import check
from .layers import AbstractNorm, Linear, expand, make_norm
from .rows import Row

Context = Callable[[Row], tuple[Any, Float[Array, "*B T half"] | None]]
"""The attention mask and the rotary angles of a row, at any level."""


def block_order(grid: Sequence[int], merges: int) -> Int[np.ndarray, " T"]:
    """The raster index of each stored token: blocks of 2^m x 2^m in raster order, within a block in Z-order.

    >>> block_order((2, 4), 1)
    array([0, 1, 4, 5, 2, 3, 6, 7])
    """
    y, x = np.indices(tuple(grid)).reshape(2, -1)
    place = sum(((2 * (y >> bit & 1) + (x >> bit & 1)) << 2 * bit for bit in range(merges)), np.zeros(len(y), int))
    return np.lexsort((place, x >> merges, y >> merges))


class QuadMerge(eqx.Module):
    """Four tokens → one: mean, maximum or concatenation; then norm and linear map, where there are any."""

    norm: AbstractNorm | None
    project: Linear | None
    pool: str = eqx.field(static=True)

    def __init__(self, before: ModelConfig, after: ModelConfig, pool: str, *, key: PRNGKeyArray):
        inputs = mapped_channels(pool, before.width, after.width)
        self.norm = make_norm(before.norm, inputs, before.biases, before.eps) if inputs else None
        self.project = Linear(inputs, after.width, key=key) if inputs else None
        self.pool = pool

    def __call__(self, x: Float[Array, "*B T D"]) -> Float[Array, "*B t E"]:
        quads = x.reshape(*x.shape[:-2], x.shape[-2] // 4, 4, x.shape[-1])
        x = {"mean": lambda q: q.mean(-2), "max": lambda q: q.max(-2), "concat": _flat}[self.pool](quads)
        x = x if self.norm is None else self.norm(x)
        return x if self.project is None else self.project(x)


def _flat(quads: Float[Array, "*B t 4 D"]) -> Float[Array, "*B t 4*D"]:
    """The four tokens of a quad, one after the other."""
    return quads.reshape(*quads.shape[:-2], -1)


class Hierarchy(eqx.Module):
    """A chain of stages: blocks at one level, a merge to the next level (None at the last one), and the rest."""

    stage: Encoder
    merge: QuadMerge | None
    rest: "Hierarchy | None"
    depth: int = eqx.field(static=True)
    """Blocks of this stage and of the rest."""

    def __init__(self, configs: Sequence[ModelConfig], pool: str, *, key: PRNGKeyArray):
        stage, merge, rest = jr.split(key, 3)
        first, *others = configs
        last = not others
        self.stage = Encoder(first if last else replace(first, final_norm=False), key=stage)
        self.merge = None if last else QuadMerge(first, others[0], pool, key=merge)
        self.rest = None if last else Hierarchy(others, pool, key=rest)
        self.depth = sum(config.depth for config in configs)

    @property
    def norm(self) -> AbstractNorm | None:
        """The norm after the last block."""
        return self.stage.norm if self.rest is None else self.rest.norm

    def __call__(
        self, x: Float[Array, "*B T D"], row: Row, context: Context, gates: Float[Array, "L *B I"] | None = None
    ) -> Float[Array, "*B t E"]:
        """The encoded tokens of a row at the last level."""
        mask, angles = context(row)
        now = None if gates is None else token_gates(gates[: self.stage.depth], row.segment_ids)
        x = self.stage(x, mask, angles, now)
        if self.merge is None or self.rest is None:
            return x
        later = None if gates is None else gates[self.stage.depth :]
        whole = are_quads(row)[..., None]
        return self.rest(jnp.where(whole, self.merge(x), jnp.nan), coarser(row), context, later)


def stage_configs(config: ModelConfig) -> list[ModelConfig]:
    """The configuration of each stage; heads and MLP grow with the width, so that heads keep their size."""
    assert config.stages is not None
    return [
        replace(
            config, stages=None, posembed=NoPositions(), width=width, depth=depth, unroll=min(config.unroll, depth),
            heads=config.heads * width // config.width, mlp_width=config.mlp_width * width // config.width,
        )
        for depth, width in zip(config.stages.depths, config.stages.widths_of(config.width), strict=True)
    ]  # fmt: skip


def make_encoder(config: ModelConfig, *, key: PRNGKeyArray) -> Encoder | Hierarchy:
    """Initialize the blocks of the configuration."""
    if config.stages is None:
        return Encoder(config, key=key)
    return Hierarchy(stage_configs(config), config.stages.pool, key=key)


def are_quads(row: Row) -> Bool[Array, "*B t"]:
    """Whether each four tokens in a row are a quad, in raster order, or all padding."""
    coords, ids = _by_four(row.coords), _by_four(row.segment_ids[..., None])[..., 0]
    corner = expand(jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]]), coords)
    square = ((coords - coords[..., :1, :] == corner) & (coords[..., :1, :] % 2 == 0)).all((-2, -1))
    if jnp.issubdtype(coords.dtype, jnp.floating):  # coordinates of training may be moved (`fuzzy`)
        square = jnp.ones_like(square)
    return (ids == ids[..., :1]).all(-1) & (square | (ids[..., 0] == 0))


def _by_four(x: Array) -> Array:
    """Four tokens in a row on an axis of their own.   Raises ConfigError where there is a rest."""
    check(x.shape[-2] % 4 == 0, f"rows of {x.shape[-2]} tokens are not merged: their length must be a multiple of 4")
    return x.reshape(*x.shape[:-2], x.shape[-2] // 4, 4, x.shape[-1])


def coarser(row: Row) -> Row:
    """The row after merging: a quarter of the tokens, coordinates and grids halved.

    The coordinate of a merged token is that of the center of its quad, in the units of the next level.
    """
    ids, coords = row.segment_ids[..., ::4], _by_four(row.coords)
    if jnp.issubdtype(coords.dtype, jnp.floating):
        coords = (coords.mean(-2) - 0.5) / 2
    else:
        coords = coords[..., 0, :] // 2
    coords = jnp.where(ids[..., None] > 0, coords, 0)
    return Row(row.patches[..., ::4, :], coords, ids, row.grids // 2, row.image_ids)


def last_level(row: Row, config: ModelConfig) -> Row:
    """The row as its encoded tokens stand in it."""
    for _ in range(config.stages.merges if config.stages else 0):
        row = coarser(row)
    return row
