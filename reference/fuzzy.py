"""Fuzzy positions: in training the coordinates of tokens are moved at random, in evaluation they are exact.

[ViTAR, arXiv:2403.18361: noise of each token, up to half a patch; DINOv3, arXiv:2508.10104: shift and rescaling of all
coordinates of an image]
"""

import numpy as np
from jaxtyping import Float, Num


def move(
    coords: Num[np.ndarray, "T A"],
    grids: Num[np.ndarray, "T A"],
    noise: Float[np.ndarray, "T A"],
    shift: Float[np.ndarray, "#T A"],
    scale: Float[np.ndarray, "#T 1"],
) -> Float[np.ndarray, "T A"]:
    """x' = s (x + ½ − n/2) + (1 + shift) n/2 − ½ + noise: about the center of the image, in patches.

    `noise` is in patches, `shift` in halves of a side. Zeros and s = 1 change nothing.
    """
    half = grids / 2
    return scale * (coords + 0.5 - half) + (1 + shift) * half - 0.5 + noise


def sample_moves(
    rng: np.random.Generator, shape: tuple[int, int], jitter: float, shift: float, rescale: float
) -> tuple[Float[np.ndarray, "T A"], Float[np.ndarray, "1 A"], Float[np.ndarray, "1 1"]]:
    """Noise of the tokens of one image, its shift and its scale: uniform in ±jitter and ±shift, log-uniform from
    1/rescale to rescale.

    Choice: they belong to the image and to the cell of its grid, so that neither packing nor dropping changes them.
    """
    noise = rng.uniform(-jitter, jitter, shape)
    return noise, rng.uniform(-shift, shift, (1, shape[1])), rescale ** rng.uniform(-1, 1, (1, 1))
