"""Outputs of a model over any number of packed batches."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from .masks import used_slots
from .rows import Row
from .tasks.model import Model

Output = Callable[[Model, Row], Array]


class Outputs(NamedTuple):
    """One entry per image, in the order of the batches."""

    image_ids: Int[np.ndarray, " N"]
    values: Float[np.ndarray, "N *n"]
    """Logits, features, or whatever else the model was asked for."""


@eqx.filter_jit
def forward(model: Model, batch: Row) -> Array:
    """The jitted model: the output of each image slot, such as logits."""
    return model(batch)


@eqx.filter_jit
def pooled(model: Model, batch: Row) -> Float[Array, "*B I D"]:
    """The jitted backbone: the vector of each image slot."""
    return model.backbone(batch)


@eqx.filter_jit
def tokens(model: Model, batch: Row) -> Float[Array, "*B T D"]:
    """The jitted encoder: the encoded tokens of each row."""
    return model.backbone.tokens(batch)


@eqx.filter_jit
def hidden_states(model: Model, batch: Row) -> Float[Array, "states *B T D"]:
    """The jitted tokens before the first block and after each."""
    return model.backbone.hidden_states(batch)


def predict(model: Model, batches: Iterable[Row], output: Output = forward) -> Outputs:
    """Run the model over batches and keep what belongs to an image.   Raises ValueError on no batch."""
    parts = [_real(batch, output(model, batch)) for batch in batches]
    if not parts:
        raise ValueError("there is nothing to predict: no batch of rows was given")
    return Outputs(*(np.concatenate(column) for column in zip(*parts)))


def _real(batch: Row, values: Array) -> Outputs:
    real = np.asarray(used_slots(batch.segment_ids, batch.grids.shape[-2]))
    return Outputs(np.asarray(batch.image_ids)[real], np.asarray(jax.device_get(values))[real])
