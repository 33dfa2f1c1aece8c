"""Types that several families of sampling share."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

Rng = np.random.Generator
Patch = tuple[int, ...]
"""Height and width in pixels."""
PatchSize = Patch | Int[np.ndarray, "#N 2"]
"""One patch for all images, or one for each."""
Tokens = Callable[[PatchSize], Int[np.ndarray, " N"]]
"""Tokens of every image in patches of a size, at its drawn resolution."""


def square(side: int) -> Patch:
    """A patch of equal sides."""
    return side, side
