"""Patch size of each image, and the base size for a set of patch sizes: how much PI-resize amplifies noise.

A distribution over patch sizes is ordered from coarse to fine and evaluated at a quantile q in [0, 1]: random q in
training as in FlexiViT, q along the run for a curriculum.

Resizing by a few pixels interpolates between nearly the same samples, and its pseudo-inverse amplifies the highest
frequencies: 16 → 15 more than 16 → 8.
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
    """The size at quantile q: the first, from coarse to fine, whose cumulative probability is above q.

    With q ~ U(0, 1) sizes are drawn in proportion to their weights; uniformly without weights, as in the paper.
    [FlexiViT: uniform over the sizes]   Raises ValueError unless there is one positive weight per size.
    """
    shares = np.ones(len(sizes)) if not len(weights) else np.array(weights, float)
    if not len(sizes) or len(shares) != len(sizes) or min(shares) <= 0 or min(sizes) < 1:
        raise ValueError(f"patch sizes need positive sizes and as many positive weights, got {sizes} and {weights}")
    order = np.argsort(sizes)[::-1]
    ends = np.cumsum(shares[order])
    place = np.searchsorted(ends / ends[-1], q, side="right")
    return np.array(sizes, np.int32)[order][np.minimum(place, len(sizes) - 1)]


def sample_coarse_to_fine(
    rng: np.random.Generator, progress: Float[np.ndarray, " N"], mix: float
) -> Float[np.ndarray, " N"]:
    """Quantiles q = (1 − m) t + m u for `patch_size_at`, progress t ∈ [0, 1] of the run, u ~ U(0, 1).

    With m = 0 the sizes are used strictly one after the other, each for its share of the run; m = 1 is no curriculum.
    Choice: the paper has a curriculum of patch sizes, its form is not public.   Raises ValueError unless 0 ≤ m ≤ 1.
    """
    if not 0 <= mix <= 1:
        raise ValueError(f"mix={mix:g}, the random share of a curriculum, must be in [0, 1]")
    return (1 - mix) * np.clip(progress, 0, 1) + mix * rng.random(len(progress))


def finest_within(tokens: Int[np.ndarray, "sizes N"], sizes: Sequence[int], budget: int) -> Int[np.ndarray, " N"]:
    """For each image the smallest patch size at which it has at most `budget` tokens, else the largest patch size.

    `tokens[s]` are the numbers of tokens at `sizes[s]`.
    """
    order = np.argsort(sizes)
    fits = tokens[order] <= budget
    place = np.where(fits.any(0), fits.argmax(0), len(order) - 1)
    return np.array(sizes, np.int32)[order][place]


def gain(base: Size, size: Size, interpolation: Interpolation = FLEXIVIT) -> float:
    """‖K ⊗ K‖₂: the largest factor by which PI-resize from `base` to `size` grows a kernel, or its adjoint a patch."""
    return prod(float(np.linalg.norm(pi_matrix(old, new, interpolation), 2)) for old, new in zip(base, size))


def reach(base: Size, size: Size, interpolation: Interpolation = FLEXIVIT) -> float:
    """‖K ⊗ K‖₁: the largest absolute value of `adjoint_patches` on normalized pixels in [−1, 1]."""
    return prod(float(np.linalg.norm(pi_matrix(old, new, interpolation), 1)) for old, new in zip(base, size))


def check_gains(base: Size, sizes: Sequence[Size], interpolation: Interpolation = FLEXIVIT) -> None:
    """Warns of sizes with a gain above 8.   Choice: 8 is 3 bits of noise."""
    high = [f"{tuple(s)}: {g:.1f}" for s in sizes if (g := gain(base, s, interpolation)) > WARN_ABOVE]
    if high:
        warnings.warn(
            f"PI-resize from the base patch size {tuple(base)} amplifies noise by more than {WARN_ABOVE:g} "
            f"at {', '.join(high)}: choose another base (`best_base` compares them) or leave these sizes out",
            stacklevel=2,
        )


def best_base(sizes: Sequence[Size], candidates: Sequence[Size], interpolation: Interpolation = FLEXIVIT) -> Size:
    """The candidate with the smallest maximum gain over the sizes; the first of equal ones.

    Small bases win, because enlarging amplifies little, but such a kernel has no detail finer than the base grid. The
    caller sets the limit by the candidates.
    """
    return min(candidates, key=lambda base: max(gain(base, size, interpolation) for size in sizes))
