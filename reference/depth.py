"""Stochastic depth: in training, an image skips some blocks.   [Huang et al., arXiv:1603.09382]"""

import numpy as np
from jaxtyping import Float, Int


def skip_rates(rate: float, depth: int) -> Float[np.ndarray, " L"]:
    """The chance that an image skips block l: from 0 at the first to `rate` at the last, in a straight line."""
    return np.linspace(0.0, rate, depth)


def sample_gates(rng: np.random.Generator, rates: Float[np.ndarray, " L"], images: int) -> Float[np.ndarray, "L I"]:
    """0 where an image skips a block, otherwise 1/(1 − rate), so that the mean is 1.

    Choice: drawn for an image, not for a row, and for a block as a whole; so an image's gates do not depend on
    where it stands.
    """
    stays = rng.random((images, len(rates))) >= rates
    return (stays / (1 - rates)).T


def token_gates(gates: Float[np.ndarray, "L I"], segment_ids: Int[np.ndarray, " T"]) -> Float[np.ndarray, "L T"]:
    """The gate of each token's image."""
    return gates[:, np.maximum(segment_ids, 1) - 1]
