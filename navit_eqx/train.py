"""One training step as a pure function of (state, batch)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, Int

from .config_json import ConfigError
from .config_training import Distill, Loss, OptimConfig, Softmax, Spikes
from .losses import (
    correct,
    kl_divergence,
    sigmoid_cross_entropy,
    sigmoid_kl_divergence,
    softmax_cross_entropy,
    targets,
)
from .model import NaViT
from .types import Row


class State(NamedTuple):
    """Everything that changes while training."""

    model: Any
    """Arrays of the model; the rest of it is static."""
    average: Any
    """Moving average of the model; None where none is kept."""
    optimiser: Any
    step: Int[Array, ""]
    usual: Any = None
    """Running mean of the gradient norm; None where spikes are not refused."""

    @property
    def best(self) -> Any:
        """The parameters to evaluate and to save."""
        return self.model if self.average is None else self.average


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
    refused: Bool[Array, ""]
    """Whether a number was not finite, or the gradient a spike, so that nothing was learned."""


def loss_sum(loss: Loss, logits: Array, batch: Row, taught: Array | None = None) -> tuple[Array, Array]:
    """(sum, count) of the configured loss; `taught` are the logits of the teacher, where there is one.

    Raises ConfigError where the loss needs a teacher and there is none.
    """
    if isinstance(loss, Distill):
        if taught is None:
            raise ConfigError("loss = Distill compares with a teacher, and this program has none: see docs/flexi.md")
        divergence = kl_divergence if loss.form == "softmax" else sigmoid_kl_divergence
        return divergence(logits, taught.astype(logits.dtype), batch.labels)
    smoothing = loss.smoothing if isinstance(loss, Softmax) else 0.0
    target = targets(batch.labels, batch.partners, batch.weights, logits.shape[-1], smoothing)
    cross_entropy = softmax_cross_entropy if isinstance(loss, Softmax) else sigmoid_cross_entropy
    return cross_entropy(logits, target, batch.labels)


def init(model: NaViT, optimiser: optax.GradientTransformation, config: OptimConfig) -> State:
    """The state before the first step."""
    arrays = eqx.filter(model, eqx.is_inexact_array)
    average = jax.tree.map(jnp.copy, arrays) if config.ema else None
    usual = jnp.zeros((), jnp.float32) if config.skip else None
    return State(arrays, average, optimiser.init(arrays), jnp.zeros((), jnp.int32), usual)


def train_step(
    state: State,
    batch: Row,
    teacher: NaViT | None = None,
    shown: Row | None = None,
    *,
    static: Any,
    loss: Loss,
    optimiser: optax.GradientTransformation,
    config: OptimConfig,
    seed: int,
) -> tuple[State, Metrics]:
    """Gradient of the mean loss over the real images of all rows on all devices, and one update.

    A `teacher` sees the same images in the same slots of `shown`; nothing of it is changed.
    Where loss, gradient or update is not finite, or the gradient is a spike (`Spikes`), model, average and optimiser
    (its count included) stay as they are.
    """
    key = jr.fold_in(jr.key(seed), state.step)
    images = (batch.labels >= 0).sum(dtype=jnp.int32)

    def share(arrays, part: Row, taught: Array | None):
        """What some rows add to the mean loss; and (loss, right answers) as sums."""
        model = eqx.combine(arrays, static)
        logits = model(part, model.gates(key, part.image_ids))
        total, _ = loss_sum(loss, logits, part, taught)
        return total / jnp.maximum(images, 1).astype(total.dtype), (total, correct(logits, part.labels))

    def gradient(parts: tuple[Row, Row | None]):
        part, seen = parts
        taught = None if teacher is None or seen is None else teacher(seen)
        (_, sums), grads = jax.value_and_grad(share, has_aux=True)(state.model, part, taught)
        return grads, sums

    grads, (total, right) = accumulated(gradient, (batch, shown), config.accumulate)
    updates, opt = optimiser.update(grads, state.optimiser, state.model)
    model = optax.apply_updates(state.model, updates)
    average = None if state.average is None else moved(state.average, model, config.ema, state.step)
    grad_norm = optax.tree.norm(grads)
    learn = jnp.isfinite(total) & jnp.isfinite(grad_norm) & jnp.isfinite(optax.tree.norm(updates))
    usual = None
    if config.skip is not None:
        spike, usual = compared(grad_norm, state.usual, state.step, config.skip)
        learn &= ~spike
    model, average, opt = jax.tree.map(partial(jnp.where, learn), (model, average, opt), state[:3])
    metrics = Metrics(
        loss=total,
        images=images,
        correct=right,
        tokens=(batch.segment_ids > 0).sum(dtype=jnp.int32),
        places=jnp.asarray(batch.segment_ids.size, jnp.int32),
        grad_norm=grad_norm,
        refused=~learn,
    )
    return State(model, average, opt, state.step + 1, usual), metrics


def accumulated(sums: Callable[[Any], Any], batch: Any, parts: int) -> Any:
    """Σ sums(part) over `parts` equal parts of the rows, one after the other.   Raises ValueError if unequal.

    Part j holds rows j, j + parts, …: each device then finds its share of every part at home.
    """
    if parts == 1:
        return sums(batch)
    rows = len(jax.tree.leaves(batch)[0])
    if rows % parts:
        raise ValueError(f"{rows} rows cannot be cut into {parts} equal parts: change rows or optim.accumulate")
    cut = jax.tree.map(lambda leaf: leaf.reshape(rows // parts, parts, *leaf.shape[1:]).swapaxes(0, 1), batch)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(sums, jax.tree.map(lambda x: x[0], cut)))

    def add(total, part):
        return jax.tree.map(jnp.add, total, sums(part)), None

    return jax.lax.scan(add, zeros, cut)[0]


def moved(average: Any, model: Any, decay: float, step: Int[Array, ""]) -> Any:
    """decay · average + (1 − decay) · model.

    Choice: the decay is at most (1 + t) / (10 + t) at step t, so that the start is soon forgotten.
    """
    t = step.astype(jnp.float32)
    keep = jnp.minimum(decay, (1 + t) / (10 + t))
    return jax.tree.map(lambda a, m: a + (1 - keep).astype(a.dtype) * (m - a), average, model)


def compared(norm: Array, usual: Array, step: Int[Array, ""], skip: Spikes) -> tuple[Bool[Array, ""], Float[Array, ""]]:
    """Whether a gradient norm is a spike, and the running mean after it; see `Spikes`.

    The mean takes in min(norm, limit), by 1 / min(t + 1, window) at step t; a norm that is not finite it leaves out.
    """
    norm, seen = norm.astype(usual.dtype), (step >= skip.window) & (usual > 0)
    limit = skip.factor * usual
    taken = jnp.where(jnp.isfinite(norm), jnp.where(seen, jnp.minimum(norm, limit), norm), usual)
    return seen & (norm > limit), usual + (taken - usual) / jnp.minimum(step + 1, skip.window).astype(usual.dtype)
