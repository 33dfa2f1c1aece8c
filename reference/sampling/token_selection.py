"""Which tokens of an image stay, once it is known how many: indices in raster order."""

import numpy as np
from jaxtyping import Float, Int, Num


def sample_at_random(rng: np.random.Generator, tokens: int, kept: int) -> Int[np.ndarray, " kept"]:
    """A uniformly random subset.   [NaViT, §2.2]"""
    return np.sort(rng.permutation(tokens)[:kept])


def sample_spread(rng: np.random.Generator, tokens: int, kept: int) -> Int[np.ndarray, " kept"]:
    """One token from each of `kept` equal stretches of the raster: structured dropping that leaves no hole.

    ⌊(i + u_i) n / k⌋, i < k, u_i ~ U(0, 1), and a token that was drawn twice leaves its second place to the next.
    Every token stays with the chance k / n, to within 22 % of it, and 12.5 % where no more than half stay: a token that
    lies in two stretches may be drawn by both.   Choice: the paper drops at random alone.
    """
    places = np.floor((np.arange(kept) + rng.random(kept)) * tokens / kept).astype(np.int64)
    place = np.arange(kept)
    # Push doubles on to the next free token. Only rounding reaches beyond the end.
    places = np.maximum.accumulate(places - place) + place
    return np.minimum(places, tokens - kept + place)


def sample_by_score(
    rng: np.random.Generator, scores: Float[np.ndarray, " T"], kept: int, sharpness: float
) -> Int[np.ndarray, " kept"]:
    """A subset drawn one by one without replacement, each with a chance ∝ exp(sharpness · score): Gumbel top-k.

    Sharpness 0 draws at random, ∞ takes the highest scores.   [Kool et al., arXiv:1903.06059]
    """
    keys = sharpness * scores + rng.gumbel(size=len(scores))
    return np.sort(np.argsort(-keys, kind="stable")[:kept])


def contrast(patches: Num[np.ndarray, "T P"]) -> Float[np.ndarray, " T"]:
    """A cheap guess of what a patch tells: the standard deviation of its numbers, against that of its image.

    log((σ_t + 1) / (σ + 1)), in units of pixel levels: flat patches score low.   Choice.
    """
    spread = patches.astype(float).std(-1)
    return np.log((spread + 1) / (spread.mean() + 1))
