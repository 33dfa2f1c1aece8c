"""Zero-shot classification: a contrastive model and the embeddings of texts make a classifier."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..layers import Linear, full
from ..model import NaViT
from ..rows import Batch, Row
from . import config
from .classify import Targets, correct, soft_labels, softmax_cross_entropy
from .pair_losses import unit
from .task import AbstractTask


class ZeroShot(AbstractTask):
    """Logits e^t ⟨image, text⟩ + b of each image and the text of each class."""

    image_projection: Linear
    class_vectors: Float[Array, "Y E"]
    log_scale: Float[Array, ""]
    bias: Float[Array, ""]
    config: "config.ZeroShot" = eqx.field(static=True)
    Targets = Targets

    def __init__(self, config: "config.ZeroShot", width: int, *, key: PRNGKeyArray):
        self.image_projection = Linear(width, config.embedding, key=key)
        self.class_vectors = jnp.zeros((config.classes or 0, config.embedding))
        self.log_scale, self.bias = jnp.zeros(()), jnp.zeros(())
        self.config = config

    def predict(self, backbone: NaViT, row: Row) -> Float[Array, "*B I Y"]:
        return self.logits(backbone(row))

    def logits(self, features: Float[Array, "*B I D"]) -> Float[Array, "*B I Y"]:
        """e^t ⟨image, text⟩ + b, in at least float32."""
        images = unit(self.image_projection(full(features)))
        scale, bias, texts = (x.astype(images.dtype) for x in (jnp.exp(self.log_scale), self.bias, self.class_vectors))
        return scale * (images @ texts.T) + bias

    def loss(
        self, backbone: NaViT, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        targets = batch.targets
        logits = self.logits(backbone(batch.row, backbone.gates(key, batch.row.image_ids)))
        target = soft_labels(targets, logits.shape[-1], 0.0)
        total, count = softmax_cross_entropy(logits, target, targets.labels >= 0)
        return total, count, {"accuracy": correct(logits, targets.labels)}
