"""Packed rows ↔ sequences without padding, as other trainers read them: borders `cu_seqlens` and grids `grid_thw`.

Variable-length attention kernels take `cu_seqlens`; Qwen2-VL and its successors take `grid_thw` and tokens in blocks of
merge x merge, which their merger joins. Patches stay flattened as (row, column, channel): `channels_first` for those
who flatten (channel, time, row, column).
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Num

from .images import empty_rows, pack_lengths
from .rows import Row, row_of


class Sequences(NamedTuple):
    """Images one after the other. Image s has the tokens cu_seqlens[s] to cu_seqlens[s + 1]."""

    patches: Num[np.ndarray, "N P"]
    coords: Int[np.ndarray, "N 2"]
    """Row and column of each token in the grid of its image."""
    cu_seqlens: Int[np.ndarray, " borders"]
    grid_thw: Int[np.ndarray, "images 3"]
    """Time (1), height and width of each image in patches, before any token was dropped."""
    image_ids: Int[np.ndarray, " images"]


def to_sequences(row: Row, merge: int = 1) -> Sequences:
    """The images of packed rows, in the order of rows and slots; the tokens of each in raster order, or with `merge` in
    blocks of merge x merge, blocks and their tokens in raster order.

    Raises ValueError for clips and texts, and with `merge` for images that are no whole blocks.
    """
    rows: Any = row_of(map(np.asarray, row))
    if rows.coords.shape[-1] != 2:
        raise ValueError(f"sequences hold images, and these rows have {rows.coords.shape[-1]} coordinates a token")
    if rows.segment_ids.ndim == 1:
        rows = row_of(leaf[None] for leaf in rows)
    places = [
        (r, slot, np.flatnonzero(rows.segment_ids[r] == slot + 1))
        for r, slot in np.argwhere((rows.grids > 0).all(-1)).tolist()
    ]
    grids = np.array([rows.grids[r, slot] for r, slot, _ in places], np.int32).reshape(-1, 2)
    coords = [rows.coords[r, here] for r, _, here in places]
    for own, grid, (r, slot, _) in zip(coords, grids, places):
        if merge > 1 and (len(own) < grid.prod() or (grid % merge).any()):
            raise ValueError(
                f"image {rows.image_ids[r, slot]} has {len(own)} tokens of a grid of {tuple(grid.tolist())}, and "
                f"blocks of {merge} x {merge} need all tokens and sides that are multiples of {merge}"
            )
    orders = [block_order(own, merge) for own in coords]
    lengths = [len(own) for own in coords]
    patches = [rows.patches[r, here[order]] for (r, _, here), order in zip(places, orders)]
    return Sequences(
        np.concatenate([rows.patches[0, :0], *patches]),
        np.concatenate([rows.coords[0, :0], *(own[order] for own, order in zip(coords, orders))]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        np.concatenate([np.ones((len(grids), 1), np.int32), grids], axis=1),
        np.array([rows.image_ids[r, slot] for r, slot, _ in places], np.int32),
    )


def block_order(coords: Int[np.ndarray, "T 2"], merge: int) -> Int[np.ndarray, " T"]:
    """Indices of tokens in blocks of merge x merge: row of blocks, column of blocks, row within, column within."""
    y, x = coords.T
    return np.lexsort((x % merge, y % merge, x // merge, y // merge))


def from_sequences(sequences: Sequences, row_tokens: int, row_images: int) -> Row:
    """Packed rows of T = `row_tokens` tokens and I = `row_images` slots, each filled as well as the images allow.

    The order of tokens within an image does not matter: their coordinates say where they are. Raises ValueError where
    borders, grids and tokens do not fit each other, or an image fits no row.
    """
    borders = np.asarray(sequences.cu_seqlens)
    lengths = np.diff(borders)
    check_sequences(sequences, lengths, row_tokens)
    chosen = pack_lengths(lengths.tolist(), row_tokens, row_images) if len(lengths) else [[]]
    patches = np.asarray(sequences.patches)
    rows = empty_rows(len(chosen), row_tokens, row_images, patches.shape[1], 2, patches.dtype)
    for r, members in enumerate(chosen):
        start = 0
        for slot, s in enumerate(members):
            here, end = slice(borders[s], borders[s + 1]), start + lengths[s]
            rows.patches[r, start:end] = patches[here]
            rows.coords[r, start:end] = sequences.coords[here]
            rows.segment_ids[r, start:end] = slot + 1
            rows.grids[r, slot] = sequences.grid_thw[s, 1:]
            rows.image_ids[r, slot] = sequences.image_ids[s]
            start = end
    return rows


def check_sequences(sequences: Sequences, lengths: Int[np.ndarray, " images"], row_tokens: int) -> None:
    """Raises ValueError where parts of the sequences do not fit each other, or an image fits no row."""
    count, images = len(sequences.patches), len(sequences.grid_thw)
    grids, borders = np.asarray(sequences.grid_thw), np.asarray(sequences.cu_seqlens)
    if len(lengths) != images or len(sequences.image_ids) != images or len(sequences.coords) != count:
        raise ValueError(
            f"{len(lengths)} sequences, {images} grids, {len(sequences.image_ids)} image ids, {count} patches, "
            f"{len(sequences.coords)} coordinates: one border more than images, and a coordinate for each patch"
        )
    if borders[0] != 0 or borders[-1] != count or (lengths < 1).any():
        raise ValueError(f"cu_seqlens must rise from 0 to the {count} patches, got {borders.tolist()}")
    if (grids[:, 0] != 1).any():
        raise ValueError("rows hold images: grid_thw must have time 1")
    inside = (np.asarray(sequences.coords) >= 0) & (sequences.coords < np.repeat(grids[:, 1:], lengths, axis=0))
    if not inside.all():
        raise ValueError("a coordinate lies outside of the grid of its image: are the tokens those of these grids?")
    if (lengths > row_tokens).any():
        s = int(lengths.argmax())
        raise ValueError(f"image {sequences.image_ids[s]} has {lengths[s]} tokens, a row holds {row_tokens}")


def block_coords(grid_thw: Int[np.ndarray, "images 3"], merge: int = 1) -> Int[np.ndarray, "N 2"]:
    """Coordinates of the tokens of whole images in the order of `to_sequences`, for trainers that give grids alone."""
    found = [np.zeros((0, 2), np.int32)]
    for _, height, width in np.asarray(grid_thw).tolist():
        raster = np.indices((height, width)).reshape(2, -1).T.astype(np.int32)
        found.append(raster[block_order(raster, merge)])
    return np.concatenate(found)


def channels_first(patches: Num[np.ndarray, "N P"], patch: tuple[int, int], frames: int = 1) -> Num[np.ndarray, "N Q"]:
    """Patches flattened (row, column, channel) → (channel, time, row, column), with the picture in each of `frames`."""
    pixels = patches.reshape(len(patches), *patch, -1)
    repeated = np.repeat(np.moveaxis(pixels, -1, 1)[:, :, None], frames, axis=2)
    return repeated.reshape(len(patches), -1)
