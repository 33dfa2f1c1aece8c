"""A loss on rows that hold what a frozen backbone said of each image."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..rows import Batch, Row


class Given(eqx.Module):
    """Stands in for a frozen backbone: rows hold its vectors, one token in each image slot."""

    def __call__(self, row: Row, gates: Any = None) -> Float[Array, "*B I D"]:
        """The vector of each image slot; zeros for an empty slot, as a backbone gives them."""
        return jnp.where((row.segment_ids > 0)[..., None], row.patches, 0)

    def gates(self, key: PRNGKeyArray, image_ids: Any) -> None:
        """No block is skipped: there is none."""


def own_loss(model: Any, batch: Batch, key: PRNGKeyArray) -> Any:
    """The loss of a model on pixels."""
    return model.loss(batch, key)


def loss_of_vectors(model: Any, batch: Batch, key: PRNGKeyArray) -> Any:
    """The loss of the task of a model, on the vectors that its backbone gave."""
    return model.task.loss(Given(), batch, key)
