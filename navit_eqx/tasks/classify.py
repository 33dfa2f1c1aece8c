"""One class per image."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..errors import check
from ..layers import Linear, full
from ..model import NaViT
from ..rows import Batch, Row
from . import config
from .task import AbstractTask, OneVector, PreparedTask


class Targets(NamedTuple):
    """Labels; −1 in a slot without one. `partners` are the labels of images that were mixed in, `weights` their shares
    of the mixed image; −1 and 0 where none was."""

    labels: Int[Array, "*B I"]
    partners: Int[Array, "*B I"]
    weights: Float[Array, "*B I"]


class Classify(AbstractTask):
    """A linear head on the pooled vector of each image."""

    head: Linear
    link: str = eqx.field(static=True)
    smoothing: float = eqx.field(static=True)
    weights: tuple[float, ...] | None = eqx.field(static=True)
    """Weight of each class in the loss; None: all alike."""
    config: "config.Classify" = eqx.field(static=True)
    Targets = Targets
    pooled = True
    in_stages = True

    def __init__(self, config: "config.Classify", width: int, *, key: PRNGKeyArray):
        self.head = zero_head(width, config.classes or 0, key=key)
        self.link = config.link
        self.smoothing = config.smoothing
        self.weights = config.class_weights
        self.config = config

    @classmethod
    def prepare(cls, config: Any, classes: Sequence[str], load: Callable[[str], Any]) -> PreparedTask:
        """Raises ConfigError where classes and their weights are not equally many."""
        weights = config.class_weights
        check(
            weights is None or len(weights) == len(classes),
            f"task.weighting.weights has {len(weights or ())} numbers, but the data have {len(classes)} classes: "
            "give one for each class, in their order, or none at all",
        )
        return super().prepare(config, classes, load)._replace(data={"weighting": config.weighting})

    def predict(self, backbone: NaViT, row: Row) -> Float[Array, "*B I Y"]:
        return logits_of(self.head, backbone(row))

    def loss(
        self, backbone: OneVector, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        targets = batch.targets
        logits = logits_of(self.head, backbone(batch.row, backbone.gates(key, batch.row.image_ids)))
        target = soft_labels(targets, logits.shape[-1], self.smoothing)
        weights = image_weights(targets, self.weights)
        total, count = CROSS_ENTROPIES[self.link](logits, target, targets.labels >= 0, weights)
        return total, count, {"accuracy": correct(logits, targets.labels)}


def zero_head(width: int, classes: int, *, key: PRNGKeyArray) -> Linear:
    """Zero-initialized linear head: training starts with equal logits for all classes, as in big_vision."""
    return jax.tree.map(jnp.zeros_like, Linear(width, classes, key=key))


def logits_of(head: Linear, features: Float[Array, "*B I D"]) -> Float[Array, "*B I Y"]:
    """features w + b, in at least float32."""
    return head(full(features))


def soft_labels(targets: Targets, classes: int, smoothing: float) -> Float[Array, "*B I Y"]:
    """(1 − ε) [(1 − w) onehot(label) + w onehot(partner)] + ε / Y, with smoothing ε and mixing weight w.

    [mixup: arXiv:1710.09412; label smoothing: arXiv:1512.00567]
    """
    own, other = (jax.nn.one_hot(y, classes, dtype=targets.weights.dtype) for y in targets[:2])
    mixed = own + targets.weights[..., None] * (other - own)
    return (1 - smoothing) * mixed + smoothing / classes


def image_weights(targets: Targets, weights: tuple[float, ...] | None) -> Float[Array, "*B I"]:
    """(1 − w) weight of the label + w weight of the partner, with mixing weight w; 1 without weights of classes."""
    if weights is None:
        return jnp.ones_like(targets.weights)
    own, other = (jnp.asarray(weights, targets.weights.dtype)[y] for y in targets[:2])
    return own + targets.weights * (other - own)


def softmax_cross_entropy(
    logits: Float[Array, "*B I Y"],
    target: Float[Array, "*B I Y"],
    real: Bool[Array, "*B I"],
    weights: Float[Array, "*B I"] | float = 1.0,
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Σ −weight ⟨target, log softmax⟩ over real slots, and their number."""
    return sum_over_real(-(target.astype(logits.dtype) * jax.nn.log_softmax(logits)).sum(-1), real, weights)


def sigmoid_cross_entropy(
    logits: Float[Array, "*B I Y"],
    target: Float[Array, "*B I Y"],
    real: Bool[Array, "*B I"],
    weights: Float[Array, "*B I"] | float = 1.0,
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Σ over classes of log(1 + eˣ) − t x, times weight, over real slots, and their number."""
    return sum_over_real((jax.nn.softplus(logits) - target.astype(logits.dtype) * logits).sum(-1), real, weights)


CROSS_ENTROPIES = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}


def sum_over_real(
    loss: Float[Array, "*B I"], real: Bool[Array, "*B I"], weights: Float[Array, "*B I"] | float = 1.0
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Σ weight × loss over real slots, and their number; values of other slots, NaN included, are ignored."""
    return jnp.where(real, loss * jnp.asarray(weights, loss.dtype), 0).sum(), real.sum(dtype=jnp.int32)


def correct(logits: Float[Array, "*B I Y"], labels: Int[Array, "*B I"]) -> Int[Array, ""]:
    """Number of labeled images whose label has the highest logit."""
    return ((logits.argmax(-1).astype(labels.dtype) == labels) & (labels >= 0)).sum(dtype=jnp.int32)
