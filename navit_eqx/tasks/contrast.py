"""Contrastive training: images and texts in one embedding, both packed.   [NaViT, §3.1; docs/contrastive.md]"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..errors import check
from ..layers import Linear, full
from ..model import NaViT
from ..rows import Batch, Row, micro_batches
from . import config
from .pair_losses import Slots, clip_log_scale, contrastive_loss, embed_twice, unit
from .task import AbstractTask, OneVector, PreparedTask


class Targets(NamedTuple):
    """Rows of the texts of a batch, and the keys of both sides: an image and a text are a pair where keys are equal;
    −1 in an empty slot. `text_row.image_ids` holds the image of each text."""

    keys: Int[Array, "*B I"]
    text_row: Row
    text_keys: Int[Array, "*R M"]


class Contrast(AbstractTask):
    """A text tower, and projections of images and texts to unit vectors of one space."""

    text: NaViT
    image_projection: Linear
    text_projection: Linear
    log_scale: Float[Array, ""]
    bias: Float[Array, ""]
    config: "config.Contrast" = eqx.field(static=True)
    Targets = Targets
    pooled = True

    def __init__(self, config: "config.Contrast", width: int, *, key: PRNGKeyArray):
        text, images, texts = jr.split(key, 3)
        self.text = NaViT(config.text.model(config.tokenizer), key=text)
        self.image_projection = Linear(width, config.embedding, key=images)
        self.text_projection = Linear(config.text.width, config.embedding, key=texts)
        zero = jnp.zeros(())
        self.log_scale = zero + math.log(config.loss.temperature)
        self.bias = zero + (getattr(config.loss, "bias", None) or 0.0)
        self.config = config

    def prompts(self, classes: Sequence[str]) -> Sequence[str]:
        """Each class by its name."""
        return classes

    def predict(self, backbone: NaViT, row: Row) -> Float[Array, "*B I E"]:
        """The embedding of each image slot, of unit length."""
        return unit(self.image_projection(full(backbone(row))))

    def embed_texts(self, row: Row) -> Float[Array, "*B M E"]:
        """The embedding of each text slot, of unit length."""
        return unit(self.text_projection(full(self.text(row))))

    def loss(
        self, backbone: OneVector, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, ""], dict[str, Array]]:
        row, (keys, text_row, text_keys) = batch

        def embed(row: Row) -> Float[Array, "*B I E"]:
            return unit(self.image_projection(full(backbone(row, backbone.gates(key, row.image_ids)))))

        parts = self.config.parts
        vectors = embed(row) if parts == 1 else embed_twice(embed, micro_batches(row, parts, "task.parts"))
        images = slots(vectors, keys, row.image_ids)
        texts = slots(self.embed_texts(text_row), text_keys, text_row.image_ids)
        total, count, extras = contrastive_loss(
            self.config.kind, images, texts, self.log_scale, self.bias, duplicates=self.config.duplicates
        )
        padding = 1 - (text_row.segment_ids > 0).mean(dtype=total.dtype)
        logged = {"scale": jnp.exp(self.log_scale).astype(total.dtype), "text_padding": padding}
        return total, count, extras | {name: value * count.astype(total.dtype) for name, value in logged.items()}

    def after_update(self) -> "Contrast":
        """With the scale within its limit: a limit in the forward pass would end its gradient."""
        return eqx.tree_at(lambda task: task.log_scale, self, clip_log_scale(self.log_scale))

    @classmethod
    def prepare(cls, config: Any, classes: Sequence[str], load: Callable[[str], Any]) -> PreparedTask:
        """The tokenizer makes ids of the texts, which are the classes of the data.

        Raises ConfigError where the devices cannot share the rows of texts.
        """
        rows, devices = config.texts.rows, jax.device_count()
        check(
            rows is None or rows % devices == 0,
            f"task.texts.rows={rows} must be a multiple of the {devices} devices: leave it out, or use fewer devices",
        )
        config = replace(config, tokenizer=config.tokenizer.resolved(classes))
        data = {name: getattr(config, name) for name in ("tokenizer", "texts", "shards", "loss")}
        return PreparedTask(config, data, device_targets)


def device_targets(fields: Sequence[Any]) -> Targets:
    """Targets of the data, whose text row is a row of the reference."""
    keys, text_row, text_keys = fields
    return Targets(keys, Row(*text_row), text_keys)


def slots(vectors: Float[Array, "*B I E"], keys: Int[Array, "*B I"], ids: Int[Array, "*B I"]) -> Slots:
    """The slots of all rows, on one axis."""
    return Slots(vectors.reshape(-1, vectors.shape[-1]), keys.reshape(-1), jax.lax.stop_gradient(ids).reshape(-1))
