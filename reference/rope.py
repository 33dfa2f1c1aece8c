"""Rotary position embedding: queries and keys are rotated by angles proportional to the coordinates.

An added embedding encodes the absolute position of a token. Rotation makes the logit of a query and a key depend on
their relative position.   [RoFormer, arXiv:2104.09864; axial form for images: arXiv:2403.13298]
"""

import numpy as np
from jaxtyping import Float, Num

from .rotary_forms import FREQUENCIES, PLACES


def rope(params: dict, coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"]) -> Float[np.ndarray, "T half"]:
    """Angles place_a · θ^(−j / J), j < J = K / 2A, in radians: each axis rotates 1/A of the channel pairs of a head.

    Choice of default: the place is the patch coordinate, so that equal offsets rotate equally in images of any size.
    """
    axes = coords.shape[-1]
    share = params["size"] // (2 * axes)
    frequency = FREQUENCIES[params["frequencies"]](params["theta"], share, axes)
    places = PLACES[params["coordinate"]](coords, grids)
    return (places[:, :, None] * frequency).reshape(len(coords), axes * share)


def apply_rotary(x: Float[np.ndarray, "T H K"], angles: Float[np.ndarray, "T half"]) -> Float[np.ndarray, "T H K"]:
    """Rotate each pair (x_j, x_{j + K/2}) by its angle; all heads share the angles."""
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
