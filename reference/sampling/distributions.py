"""A distribution that NumPy lacks."""

import numpy as np
from jaxtyping import Float


def sample_truncated_normal(
    rng: np.random.Generator, mean: float, sigma: float, lo: float, hi: float, count: int
) -> Float[np.ndarray, " N"]:
    """Draws of N(mean, sigma²), each repeated until it lies within [lo, hi].   [NaViT, app. B, fig. 7]

    Raises ValueError where [lo, hi] lies far from the mean, so that nearly every draw would be repeated.
    """
    if not (lo < hi and lo - 3 * sigma < mean < hi + 3 * sigma and sigma > 0):
        raise ValueError(f"a normal law of mean {mean} and sigma {sigma} does not reach [{lo}, {hi}]")
    draws = rng.normal(mean, sigma, count)
    while (outside := (draws < lo) | (draws > hi)).any():
        draws[outside] = rng.normal(mean, sigma, outside.sum())
    return draws
