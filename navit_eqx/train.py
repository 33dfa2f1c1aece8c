"""One training step as a pure function of (state, batch)."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from .config import Sigmoid, Softmax
from .losses import correct, sigmoid_cross_entropy, softmax_cross_entropy
from .model import NaViT
from .types import Row


class State(NamedTuple):
    """Everything that changes while training."""

    model: Any
    """Arrays of the model; the rest of it is static."""
    optimiser: Any
    step: Int[Array, ""]


class Metrics(NamedTuple):
    """Of one step, over the real images of the whole batch."""

    loss: Float[Array, ""]
    """Sum over images."""
    images: Int[Array, ""]
    correct: Int[Array, ""]
    tokens: Int[Array, ""]
    places: Int[Array, ""]
    """Tokens and padding."""
    grad_norm: Float[Array, ""]


def loss_sum(loss: Softmax | Sigmoid, logits: Array, labels: Array) -> tuple[Array, Array]:
    """(sum, count) of the configured loss."""
    match loss:
        case Softmax(smoothing):
            return softmax_cross_entropy(logits, labels, smoothing)
        case Sigmoid():
            return sigmoid_cross_entropy(logits, labels)


def init(model: NaViT, optimiser: optax.GradientTransformation) -> State:
    arrays = eqx.filter(model, eqx.is_inexact_array)
    return State(arrays, optimiser.init(arrays), jnp.zeros((), jnp.int32))


def train_step(
    state: State,
    batch: Row,
    *,
    static: Any,
    loss: Softmax | Sigmoid,
    optimiser: optax.GradientTransformation,
) -> tuple[State, Metrics]:
    """Gradient of the mean loss over the real images of all rows on all devices, and one update."""

    def mean_loss(arrays):
        logits = eqx.combine(arrays, static)(batch)
        total, count = loss_sum(loss, logits, batch.labels)
        return total / jnp.maximum(count, 1).astype(total.dtype), (total, count, logits)

    (_, (total, count, logits)), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.model)
    updates, opt = optimiser.update(grads, state.optimiser, state.model)
    metrics = Metrics(
        loss=total,
        images=count,
        correct=correct(logits, batch.labels),
        tokens=(batch.segment_ids > 0).sum(dtype=jnp.int32),
        places=jnp.asarray(batch.segment_ids.size, jnp.int32),
        grad_norm=optax.tree.norm(grads),
    )
    return State(optax.apply_updates(state.model, updates), opt, state.step + 1), metrics
