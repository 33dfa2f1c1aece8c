"""Packed rows by index for a hierarchy of stages: tokens in the order of their blocks, dropped by whole blocks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Num

from reference.hierarchy import in_blocks
from reference.patches import patchify
from reference.rows import Tokens

from .rows import PlannedRows
from .sampling.kinds import Patch


@dataclass
class PlannedQuads(PlannedRows):
    """Rows of images whose grids are whole blocks; every image starts at a multiple of 4^m, since all before it end at
    one."""

    merges: int = 1

    def cut(
        self, rng: np.random.Generator, picture: Num[np.ndarray, "h w C"], grid: Int[np.ndarray, " A"], kept: int,
        patch: Patch,
    ) -> Tokens:  # fmt: skip
        """The tokens of a picture by blocks, as rows store them; some blocks are dropped."""
        patches, coords, sides = in_blocks(patchify(picture, patch), self.merges)
        if kept < len(patches):
            size = 4**self.merges
            blocks = patches.reshape(len(patches) // size, -1)
            selected = np.sort(self.token_selection.sample(rng, blocks, kept // size))
            tokens = (selected[:, None] * size + np.arange(size)).ravel()
            patches, coords = patches[tokens], coords[tokens]
        return Tokens(self.pixels.as_stored(patches, patch), coords, sides)
