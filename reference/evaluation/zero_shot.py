"""Zero-shot classification: classes are texts. The class of an image is that of the most similar vector."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def class_vectors(prompts: Sequence[Float[np.ndarray, "_ E"]]) -> Float[np.ndarray, "Y E"]:
    """For each class the mean of the unit vectors of its texts, of unit length again: a class whose texts disagree has
    a short mean, which would keep images away from it.   [CLIP, arXiv:2103.00020]"""
    return unit(np.stack([texts.mean(0) for texts in prompts]))


def unit(x: Float[np.ndarray, "*n E"]) -> Float[np.ndarray, "*n E"]:
    """x / (‖x‖ + 1e-8), of unit length.   [big_vision]"""
    return x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-8)
