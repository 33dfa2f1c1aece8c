"""Rows and batches: what the model reads and what the task asks."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int, Num


class Row(NamedTuple):
    """Several images in one sequence of fixed length T, with I image slots; leaves may have leading batch axes.

    segment_ids: 1…I = which image slot, 0 = padding.   [NaViT, §2.1, fig. 2]
    """

    patches: Num[Array, "*B T P"]
    coords: Int[Array, "*B T A"]
    segment_ids: Int[Array, "*B T"]
    grids: Int[Array, "*B I A"]
    image_ids: Int[Array, "*B I"]


class Batch(NamedTuple):
    """One or several rows, and the targets of their images, as defined by the task."""

    row: Row
    targets: Any


def to_device(leaves: Iterable[Any]) -> Row:
    """The fields of a row, in order, as arrays on the default device."""
    return Row(*map(jnp.asarray, leaves))
