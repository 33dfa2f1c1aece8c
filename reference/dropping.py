"""Token dropping: each image loses a share of its tokens, before packing, so that the room is reused."""

import numpy as np
from jaxtyping import Float, Int


def sample_beta_rate(rng: np.random.Generator, mean: float, highest: float, count: int) -> Float[np.ndarray, " N"]:
    """Drop rates d = d_max · u with u ~ Beta(7/3 μ, 7/3 (1 − μ)), μ = mean / d_max.   [NaViT, app. B.2 / fig. 14]

    The variance is 0.3 μ (1 − μ): three tenths of the largest that a law on [0, 1] with this mean can have.
    Raises ValueError unless 0 < mean < highest ≤ 1.
    """
    if not 0 < mean < highest <= 1:
        raise ValueError(f"Beta drop rates need 0 < mean < highest <= 1, got mean={mean}, highest={highest}")
    mu = mean / highest
    return highest * rng.beta(7 / 3 * mu, 7 / 3 * (1 - mu), count)


def kept_tokens(tokens: Int[np.ndarray, " N"], rate: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """How many tokens stay: max(1, ⌊s (1 − d)⌋).   Choice: floor, and never none."""
    return np.maximum(1, np.floor(tokens * (1 - rate) + 1e-9)).astype(np.int32)


def sample_tokens(rng: np.random.Generator, tokens: int, kept: int) -> Int[np.ndarray, " kept"]:
    """Which tokens stay: a uniformly random subset, in raster order.   [NaViT, §2.1]"""
    return np.sort(rng.permutation(tokens)[:kept])
