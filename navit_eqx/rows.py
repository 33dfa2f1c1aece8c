"""Rows and batches: what the model reads and what the task asks."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Int, Num

from .errors import check


class Row(NamedTuple):
    """Several images in one sequence of fixed length T, with I image slots; leaves may have leading batch axes.

    segment_ids: 1…I = which image slot, 0 = padding.   [NaViT, §2.1, fig. 2]
    """

    patches: Num[Array, "*B T P"]
    coords: Num[Array, "*B T A"]
    segment_ids: Int[Array, "*B T"]
    grids: Num[Array, "*B I A"]
    image_ids: Int[Array, "*B I"]


class Batch(NamedTuple):
    """One or several rows, and the targets of their images, as defined by the task."""

    row: Row
    targets: Any


def row_of(leaves: Iterable[Any]) -> Row:
    """The fields of a row, in order, where they are."""
    return Row(*leaves)


def to_device(leaves: Iterable[Any]) -> Row:
    """The fields of a row, in order, as arrays on the default device."""
    return Row(*jax.device_put(tuple(leaves)))


def micro_batches(batch: Any, parts: int, option: str) -> Any:
    """Leaves with a leading axis of rows → with an axis of `parts` before it.

    Part j holds rows j, j + parts, …, so that each device already holds its share of every part.
    Raises ConfigError where rows do not divide, naming the `option` that asks for the parts.
    """
    rows = len(jax.tree.leaves(batch)[0])
    check(rows % parts == 0, f"{rows} rows cannot be cut into {parts} equal parts: change rows or {option}")
    return jax.tree.map(lambda leaf: leaf.reshape(rows // parts, parts, *leaf.shape[1:]).swapaxes(0, 1), batch)
