"""The truncated normal distribution, which NumPy lacks."""

import numpy as np
from jaxtyping import Float


def sample_truncated_normal(
    rng: np.random.Generator, mean: float, sigma: float, lo: float, hi: float, count: int
) -> Float[np.ndarray, " N"]:
    """Samples of N(mean, sigma²) truncated to [lo, hi], by rejection.   [NaViT, app. B, fig. 7]

    Raises ValueError unless lo < hi, sigma > 0 and the mean is within 3 sigma of [lo, hi]: rejection would be slow.
    """
    if not (lo < hi and lo - 3 * sigma < mean < hi + 3 * sigma and sigma > 0):
        raise ValueError(f"a normal distribution of mean {mean} and sigma {sigma} does not reach [{lo}, {hi}]")
    draws = rng.normal(mean, sigma, count)
    while (outside := (draws < lo) | (draws > hi)).any():
        draws[outside] = rng.normal(mean, sigma, outside.sum())
    return draws
