"""Classes of a detector that are named by texts.   [OWL-ViT, arXiv:2205.06230; NaViT, table 1]"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..layers import Linear, full
from ..model import NaViT
from ..pooling import AbstractPool
from ..rows import Row
from ..text_rows import packed_texts
from . import config_detect as config
from .pair_losses import unit

PRIOR = 0.01  # probability of every class at the start   [arXiv:1708.02002]
SCALE = 10.0  # of similarities at the start, that of SigLIP


class TextHead(eqx.Module):
    """Logits (⟨token, class⟩ + shift) · scale of unit vectors; those of classes are embedded texts."""

    projection: Linear
    shift: Linear
    scale: Linear
    text: NaViT
    text_projection: Linear
    config: "config.ByText" = eqx.field(static=True)

    def __init__(self, config: "config.ByText", width: int, *, key: PRNGKeyArray):
        tokens, text, texts, one = jr.split(key, 4)
        assert config.text and config.tokenizer and config.embedding, "task.head is auto: call `prepare`"
        self.projection = Linear(width, config.embedding, key=tokens)
        flat = jax.tree.map(jnp.zeros_like, Linear(width, 1, key=one))
        bias = lambda value: eqx.tree_at(lambda layer: layer.b, flat, jnp.full_like(flat.b, value))
        self.shift, self.scale = bias(math.log(PRIOR / (1 - PRIOR)) / SCALE), bias(SCALE - 1)
        self.text = NaViT(config.text.model(config.tokenizer), key=text)
        self.text_projection = Linear(config.text.width, config.embedding, key=texts)
        self.config = config

    def embed_texts(self, row: Row) -> Float[Array, "*B M E"]:
        """The embedding of each text slot, of unit length."""
        return unit(self.text_projection(full(self.text(row))))

    def class_vectors(self) -> Float[Array, "Y E"]:
        """The vector of each class, the mean of the unit vectors of its texts, of unit length again; negatives last."""
        tokenizer = self.config.tokenizer
        assert tokenizer
        row = packed_texts([tokenizer.encode(text) for text in self.config.texts], 2 * tokenizer.max_length)
        slots = np.argsort(np.where(row.image_ids >= 0, row.image_ids, len(self.config.texts)), axis=None)
        vectors = self.embed_texts(Row(*map(jnp.asarray, row)))
        ordered = vectors.reshape(-1, vectors.shape[-1])[slots[: len(self.config.texts)]]
        owners = np.array(self.config.owners)
        shares = (owners == np.arange(owners.max() + 1)[:, None]) / np.bincount(owners)[:, None]
        return unit(jnp.asarray(shares, vectors.dtype) @ ordered)

    def __call__(self, x: Float[Array, "*n D"], vectors: Float[Array, "Y E"]) -> Float[Array, "*n Y"]:
        """Choice: shift and scale start the same for all tokens, so that no class is likely anywhere."""
        similarity = unit(self.projection(x)) @ vectors.T.astype(x.dtype)
        return (similarity + self.shift(x)) * (jax.nn.elu(self.scale(x)) + 1)


def alone(pool: AbstractPool, x: Float[Array, "T D"]) -> Float[Array, "T D"]:
    """Each token as an image of one token, pooled: in the space of image vectors, whatever the pool.

    Choice: OWL-ViT leaves out the pool; an attention pool has matrices that move tokens to where images are.
    """
    return pool(x[:, None], jnp.ones((len(x), 1, 1), bool), x[:, None, None])[:, 0]


def with_texts(initial: dict, saved: dict) -> dict:
    """The parameters of a detector whose classes are named by texts: all of another such detector; of a contrastive
    model the text tower, and the projection of images, which is that of tokens."""
    if "class_head" in saved:
        return saved
    tower = {name: saved[name] for name in ("text", "text_projection")} | {"projection": saved["image_projection"]}
    return initial | {"class_head": initial["class_head"] | tower}
