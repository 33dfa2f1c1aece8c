"""Packed rows by index of images with patches of several sizes: read, resize, merge, drop and pack."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Num

from reference.adaptive import merged
from reference.detail import places, with_parts
from reference.patches import normalize, patchify
from reference.resize import FLEXIVIT
from reference.rows import Tokens

from .rows import PlannedRows
from .sampling.kinds import Patch
from .sampling.merge import Merge, MergeByThreshold


@dataclass
class PlannedBlocks(PlannedRows):
    """Rows of images in blocks of several sizes; grids of the plan are (quads, rows, columns)."""

    merge: Merge | MergeByThreshold = Merge()

    @property
    def room(self) -> int:
        """Places for parts a token; 0 for a model that reads none."""
        return places(self.merge.highest, self.merge.scales) if self.pixels.detail else 0

    def with_room(self, patches: Num[np.ndarray, "T P"]) -> Num[np.ndarray, "T W"]:
        """Patches of which none is merged."""
        return np.pad(patches, ((0, 0), (0, self.room * patches.shape[1]))) if self.room else patches

    def nothing(self, patch: Int[np.ndarray, " 2"]) -> Tokens:
        """An image of zero tokens, for a row without images."""
        patches = self.with_room(super().nothing(patch).patches)
        return Tokens(patches, np.zeros((0, 3), np.float32), np.zeros(3, np.float32))

    def cut(
        self, rng: np.random.Generator, picture: Num[np.ndarray, "h w C"], grid: Int[np.ndarray, " A"], kept: int,
        patch: Patch,
    ) -> Tokens:  # fmt: skip
        """The blocks of a picture, as rows store them; they are merged first, then dropped."""
        image = self.blocks(picture, patch, int(grid[0]))
        if kept < len(image.patches):
            selected = self.token_selection.sample(rng, image.patches, kept)
            image = image._replace(patches=image.patches[selected], coords=image.coords[selected])
        return image

    def blocks(self, picture: Num[np.ndarray, "h w C"], patch: Patch, quads: int) -> Tokens:
        """All tokens of a picture, as rows store them: bytes, or float16 mapped to the kernel."""
        if not quads:  # patches of one size: nothing is scored
            patches, places, grid = patchify(picture, patch)
            coords = np.concatenate([np.zeros_like(places[:, :1]), places], 1, dtype=np.float32)
            stored = self.with_room(self.pixels.as_stored(patches, patch))
            return Tokens(stored, coords, np.array([1, *grid], np.float32))
        levels = self.merge.levels(picture, patch, quads)
        how = self.pixels.interpolation
        if how is None:  # patches of rows have the size at which images are cut
            read, base, how = picture, patch, FLEXIVIT
            patches, coords, grid = merged(picture, patch, levels, patch, self.merge.rule)
            stored = (np.rint(patches) if picture.dtype == np.uint8 else patches).astype(picture.dtype)
        else:
            flat = normalize(picture.reshape(len(picture), -1), self.pixels.mean, self.pixels.std)
            read, base = flat.reshape(picture.shape), self.pixels.patch
            patches, coords, grid = merged(read, patch, levels, base, self.merge.rule, how)
            stored = patches.astype(np.float16)
        if self.room:
            stored = with_parts(stored, read, patch, levels, base, self.room, how)
        return Tokens(stored, coords.astype(np.float32), grid.astype(np.float32))
