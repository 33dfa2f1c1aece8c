"""Classes of a detector that are named by texts.   [OWL-ViT, arXiv:2205.06230; NaViT, table 1]

A token has a class as far as its vector is similar to that of a text. The texts may be others after training.

params: projection of tokens, shift, scale, text (a tower that reads texts), text_projection
"""

import numpy as np
from jaxtyping import Float, Int

from ..evaluation import zero_shot
from ..layers import linear
from ..model import forward
from ..pooling import pool as pooled
from ..rows import Row
from ..text import with_one_hot


def text_head(params: dict, x: Float[np.ndarray, "T D"], vectors: Float[np.ndarray, "Y E"]) -> Float[np.ndarray, "T Y"]:
    """Logits (⟨token, class⟩ + shift) · scale, with unit vectors W x / ‖W x‖ of the token and of the class.

    shift = v·x + b and scale = elu(u·x + c) + 1 > 0 are numbers of the token, alike for all classes.
    [arXiv:2205.06230, code of the authors]
    """
    similarity = zero_shot.unit(linear(params["projection"], x)) @ vectors.T
    return (similarity + linear(params["shift"], x)) * (elu(linear(params["scale"], x)) + 1)


def elu(x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """x where it is positive, else eˣ − 1."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))


def alone(pool: dict, x: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T D"]:
    """Each token as an image of one token, pooled: in the space of image vectors, whatever the pool.

    Choice: OWL-ViT leaves out the pool; an attention pool has matrices that move tokens to where images are.
    """
    return pooled(pool, x, np.eye(len(x), dtype=bool), x[:, None])


def class_vectors(params: dict, texts: Row, owners: Int[np.ndarray, " N"], vocabulary: int) -> Float[np.ndarray, "Y E"]:
    """The vector of each class: that of its texts, of which `texts` packs 0 … N − 1, those of the classes `owners`."""
    features = forward(params["text"], with_one_hot(texts, vocabulary))
    embedded = zero_shot.unit(linear(params["text_projection"], features))[texts.image_ids >= 0]
    ordered = embedded[np.argsort(texts.image_ids[texts.image_ids >= 0])]
    return zero_shot.class_vectors([ordered[owners == y] for y in range(owners.max() + 1)])
