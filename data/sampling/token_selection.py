"""Sampling of tokens: which tokens of an image stay."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Num

from reference.sampling.token_selection import contrast, sample_at_random, sample_by_score, sample_spread

from ..errors import check_in
from .kinds import Rng


@dataclass(frozen=True)
class AtRandom:
    """Which tokens stay is a matter of chance: the paper's."""

    def sample(self, rng: Rng, patches: Num[np.ndarray, "T P"], kept: int) -> Int[np.ndarray, " kept"]:
        return sample_at_random(rng, len(patches), kept)


@dataclass(frozen=True)
class Spread:
    """One token of each equal stretch of the image stays: no large hole."""

    def sample(self, rng: Rng, patches: Num[np.ndarray, "T P"], kept: int) -> Int[np.ndarray, " kept"]:
        return sample_spread(rng, len(patches), kept)


@dataclass(frozen=True)
class ByContrast:
    """Patches of high contrast are likelier to stay."""

    sharpness: float = 1.0
    """The chance is proportional to contrast to this power."""

    def __post_init__(self):
        check_in("[0, inf)", sharpness=self.sharpness)

    def sample(self, rng: Rng, patches: Num[np.ndarray, "T P"], kept: int) -> Int[np.ndarray, " kept"]:
        return sample_by_score(rng, contrast(patches), kept, self.sharpness)


TokenSelection = AtRandom | Spread | ByContrast
