"""Predictions of a model over any number of packed batches."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from .model import NaViT
from .types import Row


class Predictions(NamedTuple):
    """One entry per image, in the order of the batches."""

    image_ids: Int[np.ndarray, " N"]
    labels: Int[np.ndarray, " N"]
    logits: Float[np.ndarray, "N Y"]

    @property
    def accuracy(self) -> float:
        """Share of images whose label is at the top; NaN without images."""
        if not len(self.labels):
            return float("nan")
        return float((self.logits.argmax(-1) == self.labels).mean())


@eqx.filter_jit
def forward(model: NaViT, batch: Row) -> Float[Array, "*B I Y"]:
    """The jitted model."""
    return model(batch)


@eqx.filter_jit
def features(model: NaViT, batch: Row) -> Float[Array, "*B I D"]:
    """The jitted model without its classifier."""
    return model.features(batch)


@eqx.filter_jit
def layers(model: NaViT, batch: Row) -> Float[Array, "layers *B T D"]:
    """The jitted tokens before the first block and after each."""
    return model.layers(batch)


def predict(model: NaViT, batches: Iterable[Row], output: Callable[[NaViT, Row], Array] = forward) -> Predictions:
    """Run the model over batches and gather what belongs to real images.   Raises ValueError on no batch.

    With `output=features` the vectors before the classifier stand in the place of the logits.
    """
    parts = [_real(batch, output(model, batch)) for batch in batches]
    if not parts:
        raise ValueError("there is nothing to predict: no batch of rows was given")
    return Predictions(*(np.concatenate(column) for column in zip(*parts)))


def _real(batch: Row, logits: Array) -> Predictions:
    labels = np.asarray(batch.labels)
    real = labels >= 0
    return Predictions(np.asarray(batch.image_ids)[real], labels[real], np.asarray(jax.device_get(logits))[real])
