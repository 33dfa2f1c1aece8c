"""Token selection: which tokens of an image are kept."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Num

from reference.sampling.token_selection import contrast, sample_at_random, sample_by_score, sample_spread

from ..errors import check_in
from .kinds import Rng


@dataclass(frozen=True)
class AtRandom:
    """Keep a uniformly random subset of the tokens, as in the paper."""

    def sample(self, rng: Rng, patches: Num[np.ndarray, "T P"], kept: int) -> Int[np.ndarray, " kept"]:
        return sample_at_random(rng, len(patches), kept)


@dataclass(frozen=True)
class Spread:
    """Keep one token at random from each of `kept` equal intervals of the raster order: no large holes."""

    def sample(self, rng: Rng, patches: Num[np.ndarray, "T P"], kept: int) -> Int[np.ndarray, " kept"]:
        return sample_spread(rng, len(patches), kept)


@dataclass(frozen=True)
class ByContrast:
    """Keep patches of high contrast with higher probability."""

    sharpness: float = 1.0
    """Exponent of the contrast: the probability is proportional to contrast ** sharpness; 0 is uniform."""

    def __post_init__(self):
        check_in("[0, inf)", sharpness=self.sharpness)

    def sample(self, rng: Rng, patches: Num[np.ndarray, "T P"], kept: int) -> Int[np.ndarray, " kept"]:
        return sample_by_score(rng, contrast(patches), kept, self.sharpness)


TokenSelection = AtRandom | Spread | ByContrast
