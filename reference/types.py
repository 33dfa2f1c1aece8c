"""What the model reads: tokens of one image, and a row of several images."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num


class Tokens(NamedTuple):
    """One image as tokens.   [NaViT, §2.1]"""

    patches: Num[np.ndarray, "T P"]
    coords: Int[np.ndarray, "T A"]
    grid: Int[np.ndarray, " A"]


class Row(NamedTuple):
    """Several images in one sequence of fixed length T, with room for I of them.   [NaViT, §2.1, fig. 2]

    Tokens of an image are contiguous, images stand in slot order, padding is at the end. Where an image was mixed
    with another one, `partners` is the label of that one and `weights` its share of the picture; else −1 and 0.
    """

    patches: Num[np.ndarray, "T P"]
    coords: Int[np.ndarray, "T A"]
    segment_ids: Int[np.ndarray, " T"]
    grids: Int[np.ndarray, "I A"]
    labels: Int[np.ndarray, " I"]
    image_ids: Int[np.ndarray, " I"]
    partners: Int[np.ndarray, " I"]
    weights: Float[np.ndarray, " I"]
