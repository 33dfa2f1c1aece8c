"""Forms of rotary positions: what stands for the place of a token, and which frequencies each axis has."""

import numpy as np
from jaxtyping import Float, Num


def absolute(coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"]) -> Num[np.ndarray, "T A"]:
    """The place is the patch index itself."""
    return coords


def centered(coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"]) -> Float[np.ndarray, "T A"]:
    """2π (2 (x + ½) / n − 1): one turn from the center of the image to each edge.   [DINOv3, arXiv:2508.10104]"""
    return 2 * np.pi * (2 * (coords + 0.5) / np.maximum(grids, 1) - 1)


def shared(theta: float, share: int, axes: int) -> Float[np.ndarray, "A J"]:
    """θ^(−j / J): every axis has the same J frequencies."""
    return np.broadcast_to(theta ** -(np.arange(share) / share), (axes, share))


def interleaved(theta: float, share: int, axes: int) -> Float[np.ndarray, "A J"]:
    """θ^(−(j + a/A) / J): the axes take turns along one series of A · J frequencies.   [Pixtral, arXiv:2410.07073]"""
    return theta ** -((np.arange(share) + np.arange(axes)[:, None] / axes) / share)


PLACES = {"absolute": absolute, "centered": centered}
FREQUENCIES = {"shared": shared, "interleaved": interleaved}
