"""How the teacher of a distillation sees the images of a row, and what that means for packing."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class TeacherView(NamedTuple):
    """All tokens of every image, at its drawn resolution, in patches and rows of the teacher's own.

    Choice: a teacher drops no token, so that what it says is the best it knows.
    """

    patch_size: int
    row_tokens: int
    longest_side: int
    """The largest grid side that has a position."""

    def room(
        self, kept: Int[np.ndarray, " N"], grids: Int[np.ndarray, "N 2"], row_tokens: int
    ) -> Int[np.ndarray, " N"]:
        """Tokens of a student's row to set aside for each image so that the teacher's row holds its share too:
        max(k, ⌈n T / T'⌉) for k tokens of the student's T and n of the teacher's T'; T + 1 where the teacher cannot
        see the image.

        Choice: one number for both rows, so that every packing rule stays as it is; it wastes places where images
        differ in which of the two they fill.
        """
        tokens = grids.prod(-1, dtype=np.int64)
        seen = (tokens <= self.row_tokens) & (grids.max(-1) <= self.longest_side)
        room = np.maximum(kept, -(-tokens * row_tokens // self.row_tokens))
        return np.where(seen, room, row_tokens + 1)
