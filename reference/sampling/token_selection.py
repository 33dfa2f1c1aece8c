"""Token selection: which tokens of an image are kept, given their number. Indices are in raster order."""

import numpy as np
from jaxtyping import Float, Int, Num


def sample_at_random(rng: np.random.Generator, tokens: int, kept: int) -> Int[np.ndarray, " kept"]:
    """A uniformly random subset.   [NaViT, §2.2]"""
    return np.sort(rng.permutation(tokens)[:kept])


def sample_spread(rng: np.random.Generator, tokens: int, kept: int) -> Int[np.ndarray, " kept"]:
    """Stratified sampling: one token from each of `kept` equal intervals of the raster, so that no large gap is left.

    ⌊(i + u_i) n / k⌋, i < k, u_i ~ U(0, 1); a token drawn twice is replaced by the next free one.
    Every token is kept with probability k / n to within 22 % of it, 12.5 % where k ≤ n / 2: a token in two intervals
    may be drawn from both.   Choice: the paper drops uniformly at random only.
    """
    places = np.floor((np.arange(kept) + rng.random(kept)) * tokens / kept).astype(np.int64)
    place = np.arange(kept)
    # Shift duplicates to the next free token. Only rounding can exceed the end.
    places = np.maximum.accumulate(places - place) + place
    return np.minimum(places, tokens - kept + place)


def sample_by_score(
    rng: np.random.Generator, scores: Float[np.ndarray, " T"], kept: int, sharpness: float
) -> Int[np.ndarray, " kept"]:
    """Sampling without replacement with probability ∝ exp(sharpness · score): Gumbel top-k.

    Sharpness 0 is uniform, ∞ selects the highest scores.   [Kool et al., arXiv:1903.06059]
    """
    keys = sharpness * scores + rng.gumbel(size=len(scores))
    return np.sort(np.argsort(-keys, kind="stable")[:kept])


def contrast(patches: Num[np.ndarray, "T P"]) -> Float[np.ndarray, " T"]:
    """Contrast of each patch, a cheap proxy of its information: log((σ_t + 1) / (σ + 1)).

    σ_t is the standard deviation of the pixels of patch t, σ its mean over the image, in pixel levels; flat patches
    score low.   Choice: not in the paper.
    """
    spread = patches.astype(float).std(-1)
    return np.log((spread + 1) / (spread.mean() + 1))
