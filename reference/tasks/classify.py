"""One class per image.   params: head, link ("softmax" or "sigmoid"), smoothing, weights (of classes, or None)"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ..layers import linear


class Targets(NamedTuple):
    """Labels of a row; −1 in a slot without one. `partners` are the labels of images that were mixed in, `weights`
    their shares of the mixed image; −1 and 0 where none was."""

    labels: Int[np.ndarray, " I"]
    partners: Int[np.ndarray, " I"]
    weights: Float[np.ndarray, " I"]


def predict(params: dict, features: Float[np.ndarray, "I D"]) -> Float[np.ndarray, "I Y"]:
    """Logits: features w + b."""
    return linear(params["head"], features)


def loss(
    params: dict, features: Float[np.ndarray, "I D"], targets: Targets, used: Bool[np.ndarray, " I"]
) -> tuple[float, int]:
    """Σ weight × cross-entropy over the labeled images of a row, and their number."""
    logits = predict(params, features)
    target = soft_labels(targets, logits.shape[-1], params["smoothing"])
    weights = image_weights(targets, params["weights"])
    return CROSS_ENTROPIES[params["link"]](logits, target, targets.labels >= 0, weights)


def image_weights(targets: Targets, weights: tuple[float, ...] | None) -> Float[np.ndarray, " I"]:
    """(1 − w) weight of the label + w weight of the partner, with mixing weight w; 1 without weights of classes.

    Choice: the weight of an image, not of the terms of its target, so that smoothing and the sigmoid loss are weighted
    alike, and weights are to a loss what repeated images are to an epoch.
    """
    if weights is None:
        return np.ones(len(targets.labels))
    own, other = (np.array(weights)[y] for y in targets[:2])
    return (1 - targets.weights) * own + targets.weights * other


def soft_labels(targets: Targets, classes: int, smoothing: float) -> Float[np.ndarray, "I Y"]:
    """(1 − ε) [(1 − w) onehot(label) + w onehot(partner)] + ε / Y, with smoothing ε and mixing weight w.

    [mixup: arXiv:1710.09412; label smoothing: arXiv:1512.00567]
    """
    own, other = (np.equal.outer(y, np.arange(classes)).astype(float) for y in targets[:2])
    mixed = (1 - targets.weights[:, None]) * own + targets.weights[:, None] * other
    return (1 - smoothing) * mixed + smoothing / classes


def softmax_cross_entropy(
    logits: Float[np.ndarray, "I Y"],
    target: Float[np.ndarray, "I Y"],
    real: Bool[np.ndarray, " I"],
    weights: Float[np.ndarray, " I"] | float = 1.0,
) -> tuple[float, int]:
    """Σ −weight ⟨target, log softmax⟩ over real slots, and their number."""
    shifted = logits - logits.max(-1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return float((-weights * (target * log_probability).sum(-1))[real].sum()), int(real.sum())


def sigmoid_cross_entropy(
    logits: Float[np.ndarray, "I Y"],
    target: Float[np.ndarray, "I Y"],
    real: Bool[np.ndarray, " I"],
    weights: Float[np.ndarray, " I"] | float = 1.0,
) -> tuple[float, int]:
    """Σ over classes of −t log σ(x) − (1 − t) log σ(−x) = log(1 + eˣ) − t x, times weight, over real slots, and their
    number.

    [NaViT, §3.1: classification is trained with sigmoid cross-entropy]
    """
    return float((weights * (np.logaddexp(0.0, logits) - target * logits).sum(-1))[real].sum()), int(real.sum())


CROSS_ENTROPIES = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}
