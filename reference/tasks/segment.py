"""A class for every pixel: tokens → logits of their pixels, cross-entropy of every labeled pixel.

[NaViT, fig. 13; the linear decoder is that of Segmenter, arXiv:2105.05633]

decoder   a token gives
linear    Y logits, between which pixels are interpolated as if the grid of the image were resized: `upsample_in_row`
pixels    Y logits for each of its pixels. Choice: small things need more than one class in a patch
patch     Y logits, the same for all of its pixels

params: head, decoder, patch (height and width of the labels of a token)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from ..layers import linear
from ..patches import unpatchify
from ..resize import resize_image, triangle

IGNORE = 255  # label of pixels without a class, of padding, and of images without a mask


class Targets(NamedTuple):
    """Labels of the pixels of each token, cut like pixels by the same plan; and the tokens around each token."""

    labels: UInt8[np.ndarray, "T p q"]
    neighbors: Int[np.ndarray, "T 3 3"]


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


def loss(params: dict, tokens: Float[np.ndarray, "T D"], targets: Targets) -> tuple[float, int]:
    """Σ −log softmax(logits)_label over the labeled pixels of a row, and their number."""
    logits = pixel_logits(params, predict(params, tokens), targets.neighbors)
    labeled = targets.labels != IGNORE
    shifted = logits - logits.max(-1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    own = np.take_along_axis(log_probability, np.where(labeled, targets.labels, 0)[..., None].astype(int), -1)[..., 0]
    return float(-own[labeled].sum()), int(labeled.sum())


def native_logits(
    params: dict,
    outputs: Float[np.ndarray, "n m"],
    coords: Int[np.ndarray, "n 2"],
    grid: Sequence[int],
    size: Sequence[int],
) -> Float[np.ndarray, "h w Y"]:
    """Logits at the pixels of the photograph, from the outputs of all tokens of one image: resized, then compared.

    Choice: one linear step from the grid (or from its pixels) to `size`; the class of a pixel is that of the highest
    logit after it, since the mean of two classes is no class.
    """
    order = np.lexsort((coords[:, 1], coords[:, 0]))
    pixels = params["patch"] if params["decoder"] == "pixels" else (1, 1)
    picture = unpatchify(outputs[order], grid, pixels)
    return picture if picture.shape[:2] == tuple(size) else resize_image(picture, size)
