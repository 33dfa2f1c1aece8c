"""Texts as classes: the embedding of any text, and a classifier made from texts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .errors import ConfigError, check
from .images import pack_lengths, unpack
from .info import ModelInfo
from .layers import full
from .rows import Row, to_device
from .tasks import config
from .tasks.class_heads import TextHead
from .tasks.contrast import Contrast
from .tasks.detect import Detect
from .tasks.model import Model, abstract_model
from .tasks.pair_losses import unit
from .text_rows import ROW_TEXTS, text_batch

ROWS = 8  # of a batch of texts: one compiled program for any number of texts
Prompts = Sequence[str] | Mapping[str, Sequence[str]]
"""Names of classes that are their own prompts, or several prompts for each name."""


def embed_texts(model: Model, texts: Sequence[str]) -> Float[np.ndarray, "N E"]:
    """The embedding of each text, of unit length.   Raises ConfigError where the model reads no text.

    similarity = navit.embed_texts(model, ["a small dog"]) @ vectors.T
    """
    task: Any = reading_texts(model)
    tokenizer = task.config.tokenizer
    ids = [tokenizer.encode(text) for text in texts]
    rows = pack_lengths([len(each) for each in ids], 2 * tokenizer.max_length, ROW_TEXTS)
    found = np.zeros((len(ids), task.config.embedding), np.float32)
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        batch = text_batch(ids, part, 2 * tokenizer.max_length, ROWS)
        found[sorted(i for row in part for i in row)] = unpack(batch, np.asarray(embed(task, to_device(batch))))
    return found


def zero_shot(model: Model, classes: Prompts) -> Model:
    """A classifier of the classes that texts name: its logits are e^t ⟨image, text⟩ + b. A detector whose classes are
    named by texts finds boxes of these classes.

    Raises ConfigError where the model reads no text, or a class has no prompt.

        classifier = navit.zero_shot(model, ["a dog", "a cat"])
        classifier = navit.zero_shot(model, {"dog": ["a photo of a dog", "a drawing of a dog"], "cat": ["a cat"]})
    """
    task = reading_texts(model)
    prompts = dict(classes) if isinstance(classes, Mapping) else {name: [name] for name in classes}
    check(len(prompts) == len(classes), "two classes have the same text: leave one out")
    bare = [name for name, texts in prompts.items() if not texts or isinstance(texts, str)]
    check(bool(prompts) and not bare, f"every class needs a list of prompts, {bare[:1] or 'none'} has none")
    if isinstance(task, TextHead):
        return asking(model, prompts)
    kind = config.ZeroShot(task.config.embedding, len(prompts))
    made = abstract_model(model.config, kind, replace(model.info or ModelInfo(), classes=tuple(prompts)))
    parts = lambda m: (m.image_projection, m.log_scale, m.bias)
    filled = eqx.tree_at(parts, made.task, parts(task))
    filled = eqx.tree_at(lambda t: t.class_vectors, filled, jnp.asarray(class_vectors(model, [*prompts.values()])))
    return eqx.tree_at(lambda m: (m.backbone, m.task), made, (model.backbone, filled))


def asking(model: Model, prompts: Mapping[str, Sequence[str]]) -> Model:
    """The detector, asked for other texts; all parameters are the same."""
    head = model.task.config.head.asking(prompts)
    kind = replace(model.task.config, head=head, classes=len(prompts))
    made = abstract_model(model.config, kind, replace(model.info or ModelInfo(), classes=tuple(prompts)))
    return jax.tree.unflatten(jax.tree.structure(made), jax.tree.leaves(model))


def class_vectors(model: Model, prompts: Sequence[Sequence[str]]) -> Float[np.ndarray, "Y E"]:
    """The vector of each class: the mean of the unit vectors of its prompts, of unit length again.

    [CLIP, arXiv:2103.00020; mirror of `reference/evaluation/zero_shot.py`]
    """
    vectors = embed_texts(model, [text for texts in prompts for text in texts])
    ends = np.cumsum([len(texts) for texts in prompts])[:-1]
    means = np.stack([part.mean(0) for part in np.split(vectors, ends)])
    return np.asarray(unit(jnp.asarray(means)))


def reading_texts(model: Model) -> Contrast | TextHead:
    """The part of the task of a model that reads texts.   Raises ConfigError where there is none."""
    found = text_reader(model)
    if found is not None:
        return found
    detects = isinstance(model.task, Detect)
    raise ConfigError(
        f"this model does not read texts, its task is {type(model.task).__name__}: train one with "
        + (
            "`python train.py detect --start CONTRAST_RUN --task.head bytext`"
            if detects
            else "`python train.py contrast`"
        )
    )


def text_reader(model: Model) -> Contrast | TextHead | None:
    """The part of the task of a model that reads texts; None where there is none."""
    part = model.task.class_head if isinstance(model.task, Detect) else model.task
    return part if isinstance(part, Contrast | TextHead) else None


@eqx.filter_jit
def image_vectors(model: Model, batch: Row) -> Float[Array, "B I E"]:
    """The embedding of each image slot, of unit length, jitted; of a contrastive model or a classifier made of one."""
    task: Any = model.task
    return unit(task.image_projection(full(model.backbone(batch))))


@eqx.filter_jit
def embed(task: Contrast | TextHead, row: Row) -> Float[Array, "B M E"]:
    """The embedding of each text slot, jitted."""
    return task.embed_texts(row)
