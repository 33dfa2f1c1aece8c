"""Packed rows of clips by index: read, resize, cut into tubelets, drop and pack the clips of a planned row."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Num

from reference.patches import normalize
from reference.resize import FLEXIVIT
from reference.rows import Tokens
from reference.sampling.frames import frame_times
from reference.tubelets import tubelets

from .augment import recolor
from .errors import BadImage
from .geometry import sample_geometry
from .randomness import Purpose, generator
from .rows import Drawn, PlannedRows
from .sampling.kinds import Patch
from .sampling.resolution import Clips
from .sources.decode import resize
from .sources.source import clip_of


@dataclass
class PlannedClips(PlannedRows):
    """Rows of clips. Frames, crops and kept tokens of a clip follow from seed, epoch and its number alone."""

    clips: Clips = Clips()
    random_times: bool = False
    """Whether frames are read at random times, as in training, or in the middle of each step."""

    def nothing(self, patch: Int[np.ndarray, " 2"]) -> Tokens:
        """A clip of zero tokens, for a row without clips."""
        size = int(np.prod(self.clips.base)) * self.pixels.channels
        none = np.zeros((0, size), np.float16), np.zeros((0, 4), np.float32), np.zeros(4, np.float32)
        return Tokens(*none)

    def tokens(
        self, epoch: int, image_id: int, grid: Int[np.ndarray, " A"], kept: int, patch: Patch
    ) -> tuple[Tokens, Drawn]:
        """The tokens of one clip, independent of its row.   Raises BadImage."""
        rng, law = generator(Purpose.IMAGE, self.seed, epoch, image_id), self.clips
        frames, rows, columns = grid.tolist()
        clip = self.clip(rng, image_id, frames, (rows * patch[0], columns * patch[1]))
        flat = normalize(clip.reshape(frames, -1), self.pixels.mean, self.pixels.std)
        normalized = flat.reshape(clip.shape).astype(np.float32)
        interpolation = self.pixels.interpolation or FLEXIVIT
        patches, coords, sizes = tubelets(normalized, law.base, law.shapes, law.strides, interpolation)
        if kept < len(patches):
            selected = self.token_selection.sample(rng, patches, kept)
            patches, coords = patches[selected], coords[selected]
        return Tokens(patches.astype(np.float16), coords, sizes), Drawn(image_id)

    def clip(
        self, rng: np.random.Generator, image_id: int, frames: int, size: tuple[int, int]
    ) -> Num[np.ndarray, "f h w C"]:
        """The frames of a clip at its planned size, all cropped and changed alike.   Raises BadImage."""
        available = int(self.source.manifest.sizes[image_id, 0])
        start, offset = rng.random(2) if self.random_times else (0.5, 0.5)
        times = frame_times(available, frames, self.clips.stride, start, offset)
        if self.clips.order == "shuffled":
            rng.shuffle(times)
        whole = clip_of(self.source, image_id, times)
        if whole.shape[1:3] != tuple(self.source.manifest.sizes[image_id, 1:]):
            raise BadImage("its frames have another size than when it was measured: start again")
        if self.augment is None:
            return np.stack([resize(frame, size) for frame in whole])
        geometry = sample_geometry(rng, self.frame(image_id), size, self.augment)
        seed = rng.integers(2**63)
        frames_alike = (geometry.of_pixels(resize(frame, geometry.upright, geometry.box)) for frame in whole)
        return np.stack([recolor(np.random.default_rng(seed), frame, self.augment) for frame in frames_alike])
