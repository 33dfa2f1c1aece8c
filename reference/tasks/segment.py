"""A class for every pixel: tokens → logits of their pixels, cross-entropy of every labeled pixel.

[NaViT, fig. 13; the linear decoder is that of Segmenter, arXiv:2105.05633]

decoder   a token gives
linear    Y logits, between which pixels are interpolated as if the grid of the image were resized: `upsample_in_row`
pixels    Y logits for each of its pixels. Choice: small things need more than one class in a patch
patch     Y logits, the same for all of its pixels

Where patches are merged (`adaptive`), a token owns a block of cells: its output is read at each (`cell_outputs`), and
all else is that of a grid of cells.   [APT, arXiv:2510.18091, §3.3: a token is repeated over its block]

params: head, decoder, patch (height and width of the labels of a token)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

from ..layers import linear
from ..patches import unpatchify
from ..resize import resize_image, triangle

IGNORE = 255  # label of pixels without a class, of padding, and of images without a mask


class Targets(NamedTuple):
    """Labels of the pixels of each token, cut like pixels by the same plan; and the tokens around each token."""

    labels: UInt8[np.ndarray, "T p q"]
    neighbors: Int[np.ndarray, "T 3 3"]


class CellTargets(NamedTuple):
    """The same of U cells, where patches are merged; the token of each cell, and where the cell lies in its block."""

    labels: UInt8[np.ndarray, "U p q"]
    neighbors: Int[np.ndarray, "U 3 3"]
    owner: Int[np.ndarray, " U"]
    part: Int[np.ndarray, "U 3"]
    """Level of the block, row and column in it."""


class Cells(NamedTuple):
    """The cells of a row of merged patches, token by token; the last ones are padding."""

    owner: Int[np.ndarray, " U"]
    part: Int[np.ndarray, "U 3"]
    coords: Int[np.ndarray, "U 2"]
    segment_ids: Int[np.ndarray, " U"]


def most_cells(row_tokens: int, rate: float, scales: int) -> int:
    """Cells of so many tokens of whole images at most, where a share up to `rate` of the possible merges is made.

    k ≤ rate Σ_{1 ≤ s < S} N / 4^s quads leave T = N − 3 k ≥ N (1 − rate (1 − 4^{1 − S})) of N cells.
    """
    return int(row_tokens / (1 - rate * (1 - 4.0 ** (1 - scales))) + 1e-6)


def cells_of(coords: Float[np.ndarray, "T 3"], segment_ids: Int[np.ndarray, " T"], count: int) -> Cells:
    """The `count` cells of a row: of a token of level s, the 2^s x 2^s cells of its block in raster order.

    Without merging they are the tokens.   Raises ValueError where there are more.
    """
    real = np.flatnonzero(segment_ids > 0)
    level = coords[real, 0].astype(int)
    if (total := int((4**level).sum())) > count:
        raise ValueError(f"{total} cells in a row with room for {count}")
    first = (coords[real, 1:] + 0.5 - 2 ** level[:, None] / 2).astype(int)
    level, first, owner = (np.repeat(x, 4**level, 0) for x in (level, first, real))
    number = np.arange(total) - np.searchsorted(owner, owner)
    place = np.stack([number >> level, number & (1 << level) - 1], -1)
    padded = lambda x: np.pad(x, [(0, count - total)] + [(0, 0)] * (x.ndim - 1)).astype(np.int32)
    part = np.concatenate([level[:, None], place], -1)
    return Cells(padded(owner), padded(part), padded(first + place), padded(segment_ids[owner]))


def cell_outputs(
    params: dict, outputs: Float[np.ndarray, "T n"], owner: Int[np.ndarray, " U"], part: Int[np.ndarray, "U 3"]
) -> Float[np.ndarray, "U n"]:
    """x[owner]: the outputs of the token of each cell; with the decoder `pixels`, its part of them.

    The p x q outputs of a token of level s are those of its block as it was read: one for 2^s x 2^s pixels. Pixel
    (i, j) of the cell (y, x) of a block has number (⌊(y p + i) / 2^s⌋, ⌊(x q + j) / 2^s⌋).
    """
    if params["decoder"] != "pixels":
        return outputs[owner]
    p, q = params["patch"]
    rows = (part[:, 1:2] * p + np.arange(p)) >> part[:, :1]
    columns = (part[:, 2:] * q + np.arange(q)) >> part[:, :1]
    pixels = outputs.reshape(len(outputs), p, q, -1)
    return pixels[owner[:, None, None], rows[:, :, None], columns[:, None, :]].reshape(len(owner), -1)


def neighbors(
    coords: Int[np.ndarray, "T 2"], segment_ids: Int[np.ndarray, " T"], grids: Int[np.ndarray, "I 2"]
) -> Int[np.ndarray, "T 3 3"]:
    """Places in the row of the tokens of the same image at (y + a, x + b), a and b in −1…1.

    Beyond an edge of the image: of the nearest token in its grid. Padding, and where that token was dropped: the token
    itself.
    """
    tokens = len(segment_ids)
    found = np.tile(np.arange(tokens, dtype=np.int32)[:, None, None], (1, 3, 3))
    real = segment_ids > 0
    if not real.any():
        return found
    slot = segment_ids[real] - 1
    place = np.full((len(grids), *(grids.max(0) + 1)), -1, np.int32)
    place[slot, *coords[real].T] = np.flatnonzero(real)
    offsets = np.stack(np.meshgrid((-1, 0, 1), (-1, 0, 1), indexing="ij"), -1)
    wanted = np.clip(coords[real][:, None, None] + offsets, 0, grids[slot][:, None, None] - 1)
    there = place[slot[:, None, None], wanted[..., 0], wanted[..., 1]]
    found[real] = np.where(there >= 0, there, found[real])
    return found


def weights(patch: int) -> Float[np.ndarray, "p 3"]:
    """Shares of the tokens before, at and after each pixel of a patch: linear, half-pixel centers.

    W_ia = max(0, 1 − |u_i − a|),   u_i = (i + ½) / p − ½,   a in −1…1
    """
    u = (np.arange(patch) + 0.5) / patch - 0.5
    return triangle(u[:, None] - np.array([-1, 0, 1]))


def upsample_in_row(
    logits: Float[np.ndarray, "T Y"], neighbors: Int[np.ndarray, "T 3 3"], patch: Sequence[int]
) -> Float[np.ndarray, "T p q Y"]:
    """Σ_ab W_ia W_jb logits[neighbors_tab]: bilinear upsampling of every image of a row, where it stands.

    Equal to `resize_image` of the grid of each image alone.
    """
    return np.einsum("ia,jb,taby->tijy", weights(patch[0]), weights(patch[1]), logits[neighbors])


def predict(params: dict, tokens: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T n"]:
    """Outputs of each token: Y logits, or p·q·Y for the decoder `pixels`."""
    return linear(params["head"], tokens)


def pixel_logits(
    params: dict, outputs: Float[np.ndarray, "T n"], neighbors: Int[np.ndarray, "T 3 3"]
) -> Float[np.ndarray, "T p q Y"]:
    """Logits of the pixels of each token."""
    rows, columns = params["patch"]
    if params["decoder"] == "linear":
        return upsample_in_row(outputs, neighbors, params["patch"])
    if params["decoder"] == "pixels":
        return outputs.reshape(len(outputs), rows, columns, -1)
    return np.tile(outputs[:, None, None], (1, rows, columns, 1))


def loss(params: dict, tokens: Float[np.ndarray, "T D"], targets: Targets | CellTargets) -> tuple[float, int]:
    """Σ −log softmax(logits)_label over the labeled pixels of a row, and their number: pixels count, not tokens."""
    outputs = predict(params, tokens)
    if isinstance(targets, CellTargets):
        outputs = cell_outputs(params, outputs, targets.owner, targets.part)
    logits = pixel_logits(params, outputs, targets.neighbors)
    labeled = targets.labels != IGNORE
    shifted = logits - logits.max(-1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    own = np.take_along_axis(log_probability, np.where(labeled, targets.labels, 0)[..., None].astype(int), -1)[..., 0]
    return float(-own[labeled].sum()), int(labeled.sum())


def native_logits(
    params: dict,
    outputs: Float[np.ndarray, "n m"],
    coords: Num[np.ndarray, "n A"],
    grid: Sequence[int],
    size: Sequence[int],
) -> Float[np.ndarray, "h w Y"]:
    """Logits at the pixels of the photograph, from the outputs of all tokens of one image: resized, then compared.

    Of merged patches, coords (level, y, x) and the grid (levels, rows, columns): those of the cells of each token.

    Choice: one linear step from the grid (or from its pixels) to `size`; the class of a pixel is that of the highest
    logit after it, since the mean of two classes is no class.
    """
    if coords.shape[1] == 3:
        grid = [int(n) for n in grid[1:]]
        owner, part, coords, _ = cells_of(coords, np.ones(len(coords), int), int(np.prod(grid)))
        outputs = cell_outputs(params, outputs, owner, part)
    order = np.lexsort((coords[:, 1], coords[:, 0]))
    pixels = params["patch"] if params["decoder"] == "pixels" else (1, 1)
    picture = unpatchify(outputs[order], grid, pixels)
    return picture if picture.shape[:2] == tuple(size) else resize_image(picture, size)
