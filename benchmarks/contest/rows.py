"""Images of a case, and their packed rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from data.images import pack_images

from benchmarks.contest.stream import CASES, CLASSES, PATCH, pixels, sizes, tokens
from data.sampling.packing import ExactFit, Packing
from data.sampling.resolution import Native
from reference.packing import exact_fit
from reference.rows import Row

LONGEST_SIDE = 64  # in patches; size of the position tables
WINDOW = 64  # queued images considered for each row


class Images(NamedTuple):
    """Images of all contestants, in the order of the stream, and their assignment to our rows."""

    pixels: list[np.ndarray]
    labels: np.ndarray
    lengths: list[int]
    rows: list[list[int]]


@dataclass(frozen=True)
class FixedRows(ExactFit):
    """Rows packed beforehand by exact fit."""

    packed_rows: Sequence[Sequence[int]] = ()

    def rows(self, lengths: Sequence[int], row_tokens: int, row_images: int) -> list[list[int]]:
        return [list(row) for row in self.packed_rows]


def steady(name: str, count: int) -> Images:
    """The images of the first `count` rows of an endless stream, so that the last row is full too.

    For a case with a fixed number of images, all rows of these.
    """
    case, rng = CASES[name], np.random.default_rng(0)
    hw = sizes(name, rng, case.images or 2 * WINDOW + count * case.row_images)
    rows = exact_fit(tokens(hw).tolist(), case.row_tokens, case.row_images, WINDOW)
    rows = rows if case.images else rows[:count]
    chosen = sorted(i for row in rows for i in row)
    place = {image: k for k, image in enumerate(chosen)}
    hw = hw[chosen]
    labels = rng.integers(0, CLASSES, len(hw))
    return Images(pixels(rng, hw), labels, tokens(hw).tolist(), [[place[i] for i in row] for row in rows])


def packed(
    images: Sequence[np.ndarray], labels: np.ndarray, rows: Sequence[Sequence[int]], row_tokens: int, row_images: int
) -> Row:
    """The rows as one batch."""
    packing = Packing(row_tokens, row_images, FixedRows(packed_rows=rows))
    batch = pack_images(images, patch_size=PATCH, resolution=Native(), packing=packing, longest_side=LONGEST_SIDE)
    return batch._replace(labels=np.where(batch.image_ids >= 0, labels[batch.image_ids], -1).astype(np.int32))
