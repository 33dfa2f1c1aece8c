"""Law of resolution of `benchmarks/contest_train.py` for this project: a token budget per image."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from data.sampling.kinds import PatchSize, Rng
from data.sampling.resolution import TokenBudget
from reference.sampling.resolution import fit_tokens


@dataclass(frozen=True)
class TokenBudgets(TokenBudget):
    """Resize every image to the largest size within a budget, which is drawn for each image."""

    choices: tuple[int, ...] = ()
    """Budgets."""
    shares: tuple[float, ...] = ()
    """Share of the images that has each budget."""

    def grids(self, rng: Rng, sizes: Int[np.ndarray, "N 2"], patch_size: PatchSize) -> Int[np.ndarray, "N 2"]:
        units = sizes.astype(np.int64) * np.asarray(patch_size)[..., ::-1]
        return fit_tokens(units, rng.choice(np.array(self.choices), len(sizes), p=self.shares))

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.choices), max(self.choices)
