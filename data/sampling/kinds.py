"""Types shared by the sampling modules."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

Rng = np.random.Generator
Patch = tuple[int, ...]
"""Height and width in pixels."""
PatchSize = Patch | Int[np.ndarray, "#N 2"]
"""One patch for all images, or one per image."""
Tokens = Callable[[PatchSize], Int[np.ndarray, " N"]]
"""Number of tokens of every image at a patch size, at its sampled resolution."""


def square(side: int) -> Patch:
    """A square patch."""
    return side, side
