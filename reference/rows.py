"""Tokens of one image, a row of several images, and a batch: what the model reads and what the task asks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Num


class Tokens(NamedTuple):
    """One image as tokens.   [NaViT, §2.1]"""

    patches: Num[np.ndarray, "T P"]
    coords: Num[np.ndarray, "T A"]
    grid: Num[np.ndarray, " A"]


class Row(NamedTuple):
    """Several images in one sequence of fixed length T, with I image slots.   [NaViT, §2.1, fig. 2]

    The tokens of an image are contiguous, images are in slot order, padding is at the end.
    """

    patches: Num[np.ndarray, "T P"]
    coords: Num[np.ndarray, "T A"]
    segment_ids: Int[np.ndarray, " T"]
    grids: Num[np.ndarray, "I A"]
    image_ids: Int[np.ndarray, " I"]


class Batch(NamedTuple):
    """One or several rows, and the targets of their images, as defined by the task."""

    row: Row
    targets: Any


def pack(images: Sequence[Tokens], image_ids: Sequence[int], row_tokens: int, row_images: int) -> Row:
    """Concatenate the tokens of several images in one row; the rest of the row is padding.   [NaViT, §2.1]

    Raises ValueError where the images do not fit.
    """
    check_fits([len(image.patches) for image in images], row_tokens, row_images)
    first = images[0]
    axes = first.coords.shape[1]
    row = Row(
        patches=np.zeros((row_tokens, first.patches.shape[1]), first.patches.dtype),
        coords=np.zeros((row_tokens, axes), first.coords.dtype),
        segment_ids=np.zeros(row_tokens, np.int32),
        grids=np.zeros((row_images, axes), first.grid.dtype),
        image_ids=np.full(row_images, -1, np.int32),
    )
    start = 0
    for slot, image in enumerate(images):
        end = start + len(image.patches)
        row.patches[start:end] = image.patches
        row.coords[start:end] = image.coords
        row.segment_ids[start:end] = slot + 1
        row.grids[slot] = image.grid
        start = end
    row.image_ids[: len(images)] = image_ids
    return row


def check_fits(lengths: Sequence[int], row_tokens: int, row_images: int) -> None:
    """Raises ValueError where images of these lengths exceed `row_tokens` tokens or `row_images` slots."""
    if sum(lengths) > row_tokens or len(lengths) > row_images:
        raise ValueError(
            f"{len(lengths)} images of {sum(lengths)} tokens do not fit a row of "
            f"{row_images} images and {row_tokens} tokens"
        )


def unpack(values: Num[np.ndarray, "T *n"], segment_ids: Int[np.ndarray, " T"]) -> list[np.ndarray]:
    """Values per token of a row → one array per image, in slot order: the inverse of `pack`."""
    return [values[segment_ids == slot] for slot in range(1, segment_ids.max(initial=0) + 1)]
