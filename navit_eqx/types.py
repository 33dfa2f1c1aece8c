"""What the model reads."""

from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num


class Row(NamedTuple):
    """Several images in one sequence of fixed length; every leaf may carry leading batch axes.

    segment_ids: 1…I = which image slot, 0 = padding.   [NaViT, §2.1, fig. 2]
    partners, weights: the label that an image was mixed with and its share; −1 and 0 where it was not.
    """

    patches: Num[Array, "*B T P"]
    coords: Int[Array, "*B T A"]
    segment_ids: Int[Array, "*B T"]
    grids: Int[Array, "*B I A"]
    labels: Int[Array, "*B I"]
    image_ids: Int[Array, "*B I"]
    partners: Int[Array, "*B I"]
    weights: Float[Array, "*B I"]


def to_device(leaves: Iterable[np.ndarray]) -> Row:
    """The fields of a row or batch, in order, as arrays on the default device."""
    return Row(*map(jnp.asarray, leaves))
