"""Boxes as their files have them, and what of them can be used."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ..boxes import COUNTS, Boxes, boxes_of
from ..errors import DataError
from ..manifest import printable
from .pairs import Reader

BEYOND = 1.0  # pixels by which a box may reach out of its image without a note


class Entry(NamedTuple):
    """A box of an image, unchecked."""

    box: Any
    """Left, top, right and bottom; anything, where a file is wrong."""
    label: int
    kind: int = COUNTS
    area: float = -1.0
    """Area of the object; −1: that of the box."""


class BoxTable(NamedTuple):
    """The images of a split with the boxes of each, in the order of the files."""

    names: list[str]
    entries: list[list[Entry]]
    classes: tuple[str, ...]
    reader: Reader
    key: Any
    """Files with sizes and times, for the cache of image sizes."""
    notes: list[str]
    sizes: list[tuple[int, int] | None] | None = None
    """Height and width of each image by its annotation; None where it says nothing."""
    relative: bool = False
    """Whether boxes are in units of the image, not in pixels."""


def checked(
    table: BoxTable, images: Int[np.ndarray, " n"], sizes: Int[np.ndarray, "n 2"], where: str
) -> tuple[Boxes, list[str]]:
    """The boxes of these images (by number in the table) in pixels, within images of `sizes`, and notes on boxes that
    are clipped or left out. Raises DataError where none can be used."""
    reasons: Counter[str] = Counter()
    first: dict[str, str] = {}
    found: list[list[tuple]] = []
    for i, (height, width) in zip(images.tolist(), sizes.tolist()):
        kept = []
        for entry in table.entries[i]:
            corners, why = within(entry.box, height, width, table.relative)
            if why:
                reasons[why] += 1
                first.setdefault(why, printable(table.names[i]))
            if corners is not None:
                kept.append((*corners.tolist(), entry.label, entry.kind, entry.area))
        found.append(kept)
    notes = [f"{count} boxes {why}, first of {first[why]}" for why, count in reasons.most_common()]
    boxes = boxes_of(found)
    if not (boxes.kinds == COUNTS).any():
        raise DataError(
            f"{where}: no box can be used{''.join(f'; {note}' for note in notes)}: name the files of the boxes"
        )
    bare, other = int((boxes.counts == 0).sum()), int((boxes.kinds != COUNTS).sum())
    notes += [f"{other} boxes are crowds or difficult: not trained on, and neither right nor wrong"] if other else []
    notes += [f"{bare} of {len(found)} images have no box"] if bare else []
    return boxes, [f"{len(boxes.classes)} boxes, at most {int(boxes.counts.max())} an image", *notes]


def within(box: Any, height: int, width: int, relative: bool) -> tuple[Float[np.ndarray, " 4"] | None, str]:
    """A box clipped to its image in pixels, None where it cannot be used; and what is wrong with it."""
    corners = numbers(box)
    if corners is None:
        return None, "are not four finite numbers: they are left out"
    sides = np.array([width, height, width, height], float)
    with np.errstate(over="ignore"):  # what is beyond all numbers is beyond the image
        corners = corners * sides if relative else corners
    if (corners[2:] <= corners[:2]).any():
        return None, "have no area: they are left out"
    clipped = corners.clip(0, sides)
    if (clipped[2:] <= clipped[:2]).any():
        return None, "lie outside their image: they are left out"
    beyond = np.abs(clipped - corners).max() > BEYOND
    return clipped, f"reach more than {BEYOND:g} pixel beyond their image: they are clipped" if beyond else ""


def numbers(box: Any) -> Float[np.ndarray, " 4"] | None:
    """Four finite numbers; None for anything else."""
    try:
        found = np.array(box, float)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.shape == (4,) and np.isfinite(found).all() else None


def from_corner(box: Any) -> Any:
    """Left, top, width, height → left, top, right, bottom; what is no box stays as it is."""
    found = numbers(box)
    return box if found is None else [*found[:2].tolist(), *map(sum, zip(found[:2].tolist(), found[2:].tolist()))]


def drawn_at(table: BoxTable, images: Int[np.ndarray, " n"], sizes: Int[np.ndarray, "n 2"]) -> list[str]:
    """For each of these images why its boxes cannot belong to it: they were drawn on an image of another size."""
    said: Sequence[tuple[int, int] | None] = table.sizes or [None] * len(table.names)

    def why(i: int, size: tuple[int, int]) -> str:
        known = said[i]
        if known is None or known == size:
            return ""
        upright = " once it is upright" if known == size[::-1] else ""
        return (
            f"its boxes were drawn at {known[1]} x {known[0]} pixels, it has {size[1]} x {size[0]}{upright}: "
            "scale or turn one of them"
        )

    return [why(i, (int(size[0]), int(size[1]))) for i, size in zip(images.tolist(), sizes)]
