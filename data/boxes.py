"""Boxes of images: one table for all images of a source."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from .errors import DataError

COUNTS, CROWD, IGNORED = 0, 1, 2
"""A box counts; it holds a crowd, in which any number may be found; or finding it is neither right nor wrong."""


@dataclass(frozen=True)
class Boxes:
    """The boxes of N images, image by image."""

    ends: Int[np.ndarray, " ends"]
    """End of the boxes of each image in the tables, after a 0."""
    corners: Float[np.ndarray, "K 4"]
    """Left, top, right and bottom in pixels of the image."""
    classes: Int[np.ndarray, " K"]
    kinds: Int[np.ndarray, " K"]
    """COUNTS, CROWD or IGNORED."""
    areas: Float[np.ndarray, " K"]
    """Area of the object in pixels, by which it is small or large: that of its mask where there is one."""

    def __post_init__(self):
        count = int(self.ends[-1])
        if any(len(table) != count for table in self.tables[1:]) or (np.diff(self.ends) < 0).any():
            raise DataError(f"boxes end at {count}, tables have {[len(table) for table in self.tables[1:]]} entries")

    @property
    def tables(self) -> tuple[np.ndarray, ...]:
        """All arrays."""
        return self.ends, self.corners, self.classes, self.kinds, self.areas

    @property
    def counts(self) -> Int[np.ndarray, " N"]:
        """Number of boxes of each image, of those that count."""
        sums = np.concatenate([[0], np.cumsum(self.kinds == COUNTS)])[self.ends]
        return np.diff(sums)

    def of(self, image: int) -> "Boxes":
        """The boxes of one image."""
        return self.select([image])

    def select(self, images: Sequence[int] | Int[np.ndarray, " n"]) -> "Boxes":
        """The boxes of these images, in this order."""
        ends = self.ends.tolist()
        parts = [np.arange(ends[i], ends[i + 1]) for i in np.asarray(images, int).tolist()]
        chosen = np.concatenate([np.zeros(0, int), *parts])
        return Boxes(np.cumsum([0, *map(len, parts)]), *(table[chosen] for table in self.tables[1:]))

    def only(self, chosen: Bool[np.ndarray, " K"]) -> "Boxes":
        """The boxes where `chosen` is True."""
        ends = np.concatenate([[0], np.cumsum(chosen)])[self.ends]
        return Boxes(ends, *(table[chosen] for table in self.tables[1:]))

    def label_sets(self) -> Int[np.ndarray, "N M"]:
        """The classes that occur in each image, padded with −1: label sets for --task multilabel."""
        image = np.repeat(np.arange(len(self.ends) - 1), np.diff(self.ends))
        pairs = np.unique(np.stack([image, self.classes]), axis=1)
        counts = np.bincount(pairs[0], minlength=len(self.ends) - 1)
        table = np.full((len(counts), max(1, counts.max(initial=0))), -1, np.int32)
        table[np.arange(table.shape[1]) < counts[:, None]] = pairs[1]
        return table


def boxes_of(images: Sequence[Sequence[Sequence[Any]]]) -> Boxes:
    """Boxes from a list for each image of (left, top, right, bottom, class) or with kind and area behind."""
    lines = [[*box, *(COUNTS, -1)[len(box) - 5 :]] for image in images for box in image]
    table = np.array(lines, float).reshape(-1, 7)
    corners = table[:, :4].astype(np.float32)
    own = (corners[:, 2:] - corners[:, :2]).prod(-1)
    areas = np.where(table[:, 6] < 0, own, table[:, 6]).astype(np.float32)
    ends = np.cumsum([0, *map(len, images)])
    return Boxes(ends, corners, table[:, 4].astype(np.int32), table[:, 5].astype(np.int32), areas)


def turned(boxes: Boxes, sizes: Int[np.ndarray, "N 2"], quarter_turns: int) -> Boxes:
    """The boxes of images of these heights and widths that are turned by 90 degrees, so often, counterclockwise."""
    height, width = np.repeat(sizes, np.diff(boxes.ends), 0).T[..., None]
    x, y = boxes.corners[:, [0, 2]], boxes.corners[:, [1, 3]]
    for _ in range(quarter_turns):
        x, y, height, width = y, width - x, width, height
    low, high = (np.stack([end(x, -1), end(y, -1)], -1) for end in (np.min, np.max))
    return replace(boxes, corners=np.concatenate([low, high], -1).astype(np.float32))


def middles(corners: Float[np.ndarray, "K 4"], size: tuple[int, int]) -> Float[np.ndarray, "K 4"]:
    """Left, top, right, bottom in pixels → (cx, cy, w, h) in units of an image of `size` (height, width)."""
    low, high = corners[:, :2], corners[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], -1) / np.tile([size[1], size[0]], 2)


def corners_of(middles: Float[np.ndarray, "*n 4"], size: tuple[int, int]) -> Float[np.ndarray, "*n 4"]:
    """(cx, cy, w, h) in units of an image of `size` (height, width) → left, top, right, bottom in its pixels, within
    the image."""
    half, sides = middles[..., 2:] / 2, np.array([size[1], size[0]], float)
    both = np.concatenate([middles[..., :2] - half, middles[..., :2] + half], -1)
    return both.clip(0, 1) * np.tile(sides, 2)
