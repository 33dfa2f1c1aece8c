"""Jitted outputs of a model, for one batch of rows or any number of batches."""

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
    """Logits, features or other outputs."""


@eqx.filter_jit
def forward(model: Model, batch: Row) -> Array:
    """The output of each image slot, such as logits, jitted."""
    return model(batch)


@eqx.filter_jit
def pooled(model: Model, batch: Row) -> Float[Array, "*B I D"]:
    """The pooled vector of each image slot, jitted."""
    return model.backbone(batch)


@eqx.filter_jit
def tokens(model: Model, batch: Row) -> Float[Array, "*B T D"]:
    """The encoded tokens of each row, jitted."""
    return model.backbone.tokens(batch)


@eqx.filter_jit
def hidden_states(model: Model, batch: Row) -> Float[Array, "states *B T D"]:
    """Tokens before the first block and after each block, jitted."""
    return model.backbone.hidden_states(batch)


def predict(model: Model, batches: Iterable[Row], output: Output = forward) -> Outputs:
    """Run the model over batches and keep the outputs of slots with an image.   Raises ValueError without a batch."""
    parts = [_real(batch, output(model, batch)) for batch in batches]
    if not parts:
        raise ValueError("predict needs at least one batch of rows, got none")
    return Outputs(*(np.concatenate(column) for column in zip(*parts)))


def _real(batch: Row, values: Array) -> Outputs:
    real = np.asarray(used_slots(batch.segment_ids, batch.grids.shape[-2]))
    return Outputs(np.asarray(batch.image_ids)[real], np.asarray(jax.device_get(values))[real])
