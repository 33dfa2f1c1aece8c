"""Which patch size an image is cut at, and which base size serves a set of them: how much PI-resize amplifies.

A law of patch sizes orders them from coarse to fine and reads them at a place q on [0, 1]: at random for training as
in FlexiViT, along the run for a curriculum.

Shrinking or enlarging by a few pixels reads nearly the same samples in another place, and undoing that amplifies
what is finest: 16 → 15 more than 16 → 8.
"""

import warnings
from collections.abc import Sequence
from math import prod

import numpy as np
from jaxtyping import Float, Int

from ..resize import FLEXIVIT, Interpolation, pi_matrix

Size = Sequence[int]
WARN_ABOVE = 8.0


def patch_size_at(
    q: Float[np.ndarray, " N"], sizes: Sequence[int], weights: Sequence[float] = ()
) -> Int[np.ndarray, " N"]:
    """The size at place q of a law: the first, from coarse to fine, up to which the shares add up to more than q.

    With q ~ U(0, 1) each size is drawn with the share its weight has; no weights are equal ones, as in the paper.
    [FlexiViT: uniform over the sizes]   Raises ValueError where weights are not one positive number for each size.
    """
    shares = np.ones(len(sizes)) if not len(weights) else np.array(weights, float)
    if not len(sizes) or len(shares) != len(sizes) or min(shares) <= 0 or min(sizes) < 1:
        raise ValueError(f"a law of patch sizes needs sizes and as many positive weights, got {sizes} and {weights}")
    order = np.argsort(sizes)[::-1]
    ends = np.cumsum(shares[order])
    place = np.searchsorted(ends / ends[-1], q, side="right")
    return np.array(sizes, np.int32)[order][np.minimum(place, len(sizes) - 1)]


def sample_coarse_to_fine(
    rng: np.random.Generator, progress: Float[np.ndarray, " N"], mix: float
) -> Float[np.ndarray, " N"]:
    """Places q = (1 − m) t + m u for `patch_size_at`, t ∈ [0, 1] the share of the run that is done, u ~ U(0, 1).

    With m = 0 the sizes come strictly one after the other, each for its share of the run; m = 1 is no curriculum.
    Choice: the paper has a curriculum of patch sizes, its form is not public.   Raises ValueError unless 0 ≤ m ≤ 1.
    """
    if not 0 <= mix <= 1:
        raise ValueError(f"the share of chance in a curriculum lies in [0, 1], got mix={mix:g}")
    return (1 - mix) * np.clip(progress, 0, 1) + mix * rng.random(len(progress))


def finest_within(tokens: Int[np.ndarray, "sizes N"], sizes: Sequence[int], budget: int) -> Int[np.ndarray, " N"]:
    """For each image the finest size at which it has at most `budget` tokens; the coarsest where none does.

    `tokens[s]` are those at `sizes[s]`.
    """
    order = np.argsort(sizes)
    fits = tokens[order] <= budget
    place = np.where(fits.any(0), fits.argmax(0), len(order) - 1)
    return np.array(sizes, np.int32)[order][place]


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
