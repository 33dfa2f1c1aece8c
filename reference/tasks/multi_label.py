"""A set of classes per image, with independent classes, as NaViT is trained on JFT.   [NaViT, §3.1]   params: head"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from .classify import predict as predict
from .classify import sigmoid_cross_entropy


class Targets(NamedTuple):
    """Label sets of a row, padded with −1. `partner_sets` are the label sets of images that were mixed in, `weights`
    their shares of the mixed image."""

    label_sets: Int[np.ndarray, "I M"]
    partner_sets: Int[np.ndarray, "I M"]
    weights: Float[np.ndarray, " I"]


def loss(
    params: dict, features: Float[np.ndarray, "I D"], targets: Targets, used: Bool[np.ndarray, " I"]
) -> tuple[float, int]:
    """Σ sigmoid cross-entropy over the images of a row, and their number.

    An image with an empty label set counts: every class is a negative.
    """
    logits = predict(params, features)
    return sigmoid_cross_entropy(logits, soft_label_sets(targets, logits.shape[-1]), used)


def multi_hot(label_sets: Int[np.ndarray, "I M"], classes: int) -> Float[np.ndarray, "I Y"]:
    """1 at every label of a set, else 0."""
    return (label_sets[..., None] == np.arange(classes)).any(1).astype(float)


def soft_label_sets(targets: Targets, classes: int) -> Float[np.ndarray, "I Y"]:
    """(1 − w) multihot(own) + w multihot(partner)   [mixup: arXiv:1710.09412]"""
    own, other = (multi_hot(sets, classes) for sets in targets[:2])
    return (1 - targets.weights[:, None]) * own + targets.weights[:, None] * other
