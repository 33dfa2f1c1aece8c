"""Rows of vectors that a frozen backbone gave for each image, in place of its pixels.   [LiT, arXiv:2111.07991]"""

import hashlib
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from reference.rows import Row

from .rows import Drawn, PlannedRows


@dataclass(frozen=True)
class Embedded:
    """Embed each training image once by the frozen backbone, and train on its vector: equal to training on pixels where
    nothing of an image is drawn at random."""


@dataclass
class EmbeddedRows(PlannedRows):
    """Planned rows with one token for each image slot: the vector of the image. Images, slots and order are planned as
    for pixels; a slot whose image could not be read is empty."""

    vectors: Float[np.ndarray, "N D"] = field(default_factory=lambda: np.zeros((0, 0)))
    """Of every image of the source; NaN where it could not be read."""

    def load(
        self,
        epoch: int,
        image_ids: Int[np.ndarray, " I"],
        grids: Int[np.ndarray, "I A"],
        kept: Int[np.ndarray, " I"],
        patch_sizes: Int[np.ndarray, "I 2"],
    ) -> tuple[Row, list[Drawn]]:
        """Look up the vectors of the images of one row."""
        planned, slots = image_ids[image_ids >= 0], len(image_ids)
        readable = np.isfinite(self.vectors[planned]).all(-1)
        good, order = planned[readable], np.concatenate([planned[readable], planned[~readable]])
        row = Row(
            np.zeros((slots, self.vectors.shape[1]), self.vectors.dtype), np.zeros((slots, 2), np.int32),
            np.zeros(slots, np.int32), np.zeros((slots, 2), np.int32), np.full(slots, -1, np.int32),
        )  # fmt: skip
        row.patches[: len(good)] = self.vectors[good]
        row.segment_ids[: len(good)] = np.arange(1, len(good) + 1)
        row.grids[: len(good)] = 1
        row.image_ids[: len(order)] = order
        return row, [Drawn(int(image)) for image in good]


def embedded(planned: PlannedRows, vectors: Float[np.ndarray, "N D"]) -> EmbeddedRows:
    """The planned rows with a vector for each image."""
    return EmbeddedRows(**{f.name: getattr(planned, f.name) for f in fields(planned)}, vectors=vectors)


def digests(rows: Any) -> dict[tuple[int, int], bytes]:
    """A digest of all that a model reads of an image, by row and slot of a batch: its pixels after preprocessing, and
    where they stood."""
    found = {}
    for r, slot in np.argwhere(rows.grids[..., 0] > 0).tolist():
        mine = rows.segment_ids[r] == slot + 1
        digest = hashlib.blake2b(digest_size=16)
        for leaf in (rows.patches[r][mine], rows.coords[r][mine], rows.grids[r, slot]):
            digest.update(repr((leaf.shape, leaf.dtype.str)).encode() + np.ascontiguousarray(leaf).tobytes())
        found[r, slot] = digest.digest()
    return found
