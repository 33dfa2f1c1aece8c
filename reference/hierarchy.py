"""A hierarchy of stages: after each stage but the last, the four tokens of a 2 x 2 quad become one.

[Hiera, arXiv:2306.00989: tokens in the order of their quads; Swin, arXiv:2103.14030: growing widths]

With m merges every grid is a multiple of 2^m, and an image stores its tokens by blocks of 2^m x 2^m in raster order,
within a block in Z-order (`block_order`). A quad is then four tokens in a row at every level, an image starts at a
multiple of 4^m, and merging a packed row is one reshape.

`params["encoder"]` is a chain: `stage` (an encoder), `merge` (None at the end), `rest` (the next link).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from .encoder import encoder, token_gates
from .layers import linear, norm
from .masks import same_image, slot_tokens
from .model import embed_patches, embed_row, embedded, registers_of, rotary_angles
from .patches import raster
from .pooling import pool
from .rows import Row, Tokens


def block_order(grid: Sequence[int] | Int[np.ndarray, " 2"], merges: int) -> Int[np.ndarray, " T"]:
    """The raster index of each stored token: blocks of 2^m x 2^m in raster order, within a block in Z-order.

    Z-order interleaves the bits of y and x, y first: quads, then quads of quads. Raises ValueError where a side of the
    grid is no multiple of 2^m.
    """
    _check_whole(grid, merges)
    y, x = raster(grid).T
    place = np.zeros(len(y), int)
    for bit in range(merges):
        place += ((2 * (y >> bit & 1) + (x >> bit & 1)) << 2 * bit).astype(int)
    return np.lexsort((place, x >> merges, y >> merges))


def _check_whole(grid: Sequence[int] | Int[np.ndarray, " 2"], merges: int) -> None:
    """Raises ValueError where a side of a grid is no multiple of 2^m."""
    if any(side % 2**merges for side in grid):
        raise ValueError(
            f"a grid of {' x '.join(map(str, grid))} patches is not merged {merges} times: its sides must be "
            f"multiples of {2**merges}"
        )


def in_blocks(image: Tokens, merges: int) -> Tokens:
    """An image with all its tokens in raster order → the same tokens as rows of a hierarchical model store them."""
    order = block_order(image.grid, merges)
    return image._replace(patches=image.patches[order], coords=image.coords[order])


# the meaning: one image -------------------------------------------------------------------------------------


def quads_of(coords: Num[np.ndarray, "T 2"]) -> list[Int[np.ndarray, " 4"]]:
    """The tokens of each quad, by their coordinates and in raster order; the quads in the order of their first tokens.

    Raises ValueError where a token lacks a neighbor.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for t in range(len(coords)):
        found.setdefault(tuple((coords[t] // 2).tolist()), []).append(t)
    if any(len(members) != 4 for members in found.values()):
        raise ValueError("a token lacks neighbors to be merged with: drop whole blocks of tokens")
    return [np.array(sorted(members, key=lambda t: tuple(coords[t]))) for members in found.values()]


def quad_merge(params: dict, x: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "t E"]:
    """Four tokens in a row → one: mean, maximum or concatenation; then norm and linear map, where there are any.

    Swin concatenates and doubles the width; Hiera takes the maximum; LLaVA-UHD v3 the mean.
    """
    how = {"mean": lambda q: q.mean(1), "max": lambda q: q.max(1), "concat": lambda q: q.reshape(len(q), -1)}
    x = norm(params["norm"], how[params["pool"]](x.reshape(len(x) // 4, 4, -1)))
    return x if params["project"] is None else linear(params["project"], x)


def forward_image(
    params: dict, image: Tokens, gates: Float[np.ndarray, "L 1"] | None = None
) -> Float[np.ndarray, " D"]:
    """The meaning: a hierarchical Vision Transformer on one image, its tokens in any order."""
    grids, coords, grid = np.broadcast_to(image.grid, image.coords.shape), image.coords, image.grid
    x = embedded(params, embed_patches(params, image.patches, coords, grids), registers_of(params))
    link = params["encoder"]
    while True:
        depth, grids = _depth(link["stage"]), np.broadcast_to(grid, coords.shape)
        now = None if gates is None else np.broadcast_to(gates[:depth], (depth, len(x)))
        x = encoder(link["stage"], x, None, rotary_angles(params, coords, grids, 0), now)
        if link["merge"] is None:
            return pool(params["pool"], x, np.ones((1, len(x)), bool), np.zeros((1, 0, x.shape[-1])))[0]
        quads = quads_of(coords)
        x = quad_merge(link["merge"], np.concatenate([x[members] for members in quads]))
        coords, grid = np.stack([coords[members[0]] // 2 for members in quads]), grid // 2
        gates, link = None if gates is None else gates[depth:], link["rest"]


# the mechanism: a packed row --------------------------------------------------------------------------------


def are_quads(row: Row) -> Bool[np.ndarray, " Q"]:
    """Whether each four tokens in a row are a quad, in raster order, or all padding."""
    coords, ids = row.coords.reshape(-1, 4, 2), row.segment_ids.reshape(-1, 4)
    corner = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    square = ((coords - coords[:, :1] == corner) & (coords[:, :1] % 2 == 0)).all((1, 2))
    return (ids == ids[:, :1]).all(1) & (square | (ids[:, 0] == 0))


def coarser(row: Row) -> Row:
    """The row after merging: a quarter of the tokens, coordinates and grids halved.   Raises ValueError where four
    tokens in a row are no quad.

    The coordinate of a merged token is that of the center of its quad, in the units of the next level.
    """
    if len(row.segment_ids) % 4 or not are_quads(row).all():
        raise ValueError("four tokens in a row are no quad: store tokens in the order of `block_order`")
    coords = (row.coords.reshape(-1, 4, 2).mean(1) - 0.5) / 2
    coords = np.where(row.segment_ids[::4, None] > 0, coords, 0).astype(row.coords.dtype)
    return row._replace(patches=row.patches[::4], coords=coords, segment_ids=row.segment_ids[::4], grids=row.grids // 2)


def encode(
    params: dict, row: Row, gates: Float[np.ndarray, "L I"] | None = None
) -> tuple[Float[np.ndarray, "t D"], Row]:
    """The encoded tokens of a packed row at the last level, and the row at that level."""
    (x, _, angles), link = embed_row(params, row), params["encoder"]
    while True:
        depth = _depth(link["stage"])
        now = None if gates is None else token_gates(gates[:depth], row.segment_ids)
        x = encoder(link["stage"], x, same_image(row.segment_ids), angles, now)
        if link["merge"] is None:
            return x, row
        x, row = quad_merge(link["merge"], x), coarser(row)
        grids = np.where(row.segment_ids[:, None] > 0, row.grids[np.maximum(row.segment_ids, 1) - 1], 1)
        angles = rotary_angles(params, row.coords, grids, 0)
        gates, link = None if gates is None else gates[depth:], link["rest"]


def forward(params: dict, row: Row, gates: Float[np.ndarray, "L I"] | None = None) -> Float[np.ndarray, "I D"]:
    """The mechanism: one vector per image slot of a packed row, pooled over the tokens of the last level."""
    x, row = encode(params, row, gates)
    slots = len(row.grids)
    return pool(params["pool"], x, slot_tokens(row.segment_ids, slots), np.zeros((slots, 0, x.shape[-1])))


def _depth(stage: dict) -> int:
    """The number of blocks of a stage."""
    return len(stage["blocks"]["attention"]["q"])
