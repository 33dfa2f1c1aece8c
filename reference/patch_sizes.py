"""Which base size serves a set of patch sizes: how much PI-resize amplifies.

Shrinking or enlarging by a few pixels reads nearly the same samples in another place, and undoing that amplifies
what is finest: 16 → 15 more than 16 → 8.
"""

import warnings
from collections.abc import Sequence
from math import prod

import numpy as np

from .resize import FLEXIVIT, Interpolation, pi_matrix

Size = Sequence[int]
WARN_ABOVE = 8.0


def gain(base: Size, size: Size, interpolation: Interpolation = FLEXIVIT) -> float:
    """‖K ⊗ K‖₂: the most by which PI-resize from `base` to `size` can lengthen a kernel, or its adjoint a patch."""
    return prod(float(np.linalg.norm(pi_matrix(old, new, interpolation), 2)) for old, new in zip(base, size))


def reach(base: Size, size: Size, interpolation: Interpolation = FLEXIVIT) -> float:
    """‖K ⊗ K‖₁: normalised pixels, within ±1, are mapped by `adjoint_patches` to within ± this."""
    return prod(float(np.linalg.norm(pi_matrix(old, new, interpolation), 1)) for old, new in zip(base, size))


def check_gains(base: Size, sizes: Sequence[Size], interpolation: Interpolation = FLEXIVIT) -> None:
    """Warn of sizes whose gain is above 8.   Choice: that is 3 bits of noise."""
    high = [f"{tuple(s)}: {g:.1f}" for s in sizes if (g := gain(base, s, interpolation)) > WARN_ABOVE]
    if high:
        warnings.warn(
            f"PI-resize from the base patch size {tuple(base)} amplifies noise by more than {WARN_ABOVE:g} "
            f"at {', '.join(high)}: choose another base (`best_base` compares them) or leave these sizes out",
            stacklevel=2,
        )


def best_base(sizes: Sequence[Size], candidates: Sequence[Size], interpolation: Interpolation = FLEXIVIT) -> Size:
    """The candidate whose worst gain over the sizes is smallest; the first of equals.

    Small bases win, since enlarging amplifies little; but a kernel then has no detail finer than the base grid.
    The candidates say how small is too small.
    """
    return min(candidates, key=lambda base: max(gain(base, size, interpolation) for size in sizes))
