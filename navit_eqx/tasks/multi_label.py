"""A set of classes per image, with independent classes, as NaViT is trained on JFT.   [NaViT, §3.1]"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..layers import Linear, expand
from ..masks import used_slots
from ..model import NaViT
from ..rows import Batch, Row
from . import config
from .classify import logits_of, sigmoid_cross_entropy, zero_head
from .task import AbstractTask, OneVector


class Targets(NamedTuple):
    """Label sets, padded with −1. `partner_sets` are the label sets of images that were mixed in, `weights` their
    shares of the mixed image."""

    label_sets: Int[Array, "*B I M"]
    partner_sets: Int[Array, "*B I M"]
    weights: Float[Array, "*B I"]


class MultiLabel(AbstractTask):
    """A linear head on the pooled vector of each image."""

    head: Linear
    config: "config.MultiLabel" = eqx.field(static=True)
    Targets = Targets
    pooled = True
    in_stages = True

    def __init__(self, config: "config.MultiLabel", width: int, *, key: PRNGKeyArray):
        self.head = zero_head(width, config.classes or 0, key=key)
        self.config = config

    def predict(self, backbone: NaViT, row: Row) -> Float[Array, "*B I Y"]:
        return logits_of(self.head, backbone(row))

    def loss(
        self, backbone: OneVector, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        row, targets = batch
        logits = logits_of(self.head, backbone(row, backbone.gates(key, row.image_ids)))
        real = used_slots(row.segment_ids, row.grids.shape[-2])
        total, count = sigmoid_cross_entropy(logits, soft_label_sets(targets, logits.shape[-1]), real)
        return total, count, {"precision_at_1": hits_at_1(logits, targets.label_sets, real)}


def multi_hot(label_sets: Int[Array, "*B I M"], classes: int) -> Float[Array, "*B I Y"]:
    """1 at every label of a set, else 0."""
    sets = label_sets[..., None]
    return (sets == expand(jnp.arange(classes), sets)).any(-2).astype(float)


def soft_label_sets(targets: Targets, classes: int) -> Float[Array, "*B I Y"]:
    """(1 − w) multihot(own) + w multihot(partner)   [mixup: arXiv:1710.09412]"""
    own, other = (multi_hot(sets, classes) for sets in targets[:2])
    return own + targets.weights[..., None].astype(own.dtype) * (other - own)


def hits_at_1(
    logits: Float[Array, "*B I Y"], label_sets: Int[Array, "*B I M"], real: Bool[Array, "*B I"]
) -> Int[Array, ""]:
    """Number of images whose class with the highest logit is in their label set."""
    top = logits.argmax(-1).astype(label_sets.dtype)
    return ((top[..., None] == label_sets).any(-1) & real).sum(dtype=jnp.int32)
