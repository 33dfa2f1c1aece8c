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

from ..masks import used_slots
from ..rows import Batch
from .config import OptimConfig, Spikes


class State(NamedTuple):
    """Everything that changes while training."""

    model: Any
    """Arrays of the model; the rest of it is static."""
    ema: Any
    """Moving average of the model; None where none is kept."""
    optimizer: Any
    step: Int[Array, ""]
    grad_norm_ema: Any = None
    """Running mean of the gradient norm; None where spikes are not refused."""

    @property
    def eval_params(self) -> Any:
        """The parameters to evaluate and to save."""
        return self.model if self.ema is None else self.ema


class Metrics(NamedTuple):
    """Of one step, over all images of the batch."""

    loss_sum: Float[Array, ""]
    count: Int[Array, ""]
    """Images, or whatever else the task divides its loss by."""
    extras: dict[str, Array]
    """Sums of other measures of the task, to be divided by `count` as well."""
    images: Int[Array, ""]
    tokens: Int[Array, ""]
    places: Int[Array, ""]
    """Tokens and padding."""
    grad_norm: Float[Array, ""]
    refused: Bool[Array, ""]
    """Whether a number was not finite, or the gradient a spike: then nothing was learned."""


def init(model: Any, optimizer: optax.GradientTransformation, config: OptimConfig) -> State:
    """The state before the first step."""
    arrays = eqx.filter(model, eqx.is_inexact_array)
    ema = jax.tree.map(jnp.copy, arrays) if config.ema else None
    grad_norm_ema = jnp.zeros((), jnp.float32) if config.skip else None
    return State(arrays, ema, optimizer.init(arrays), jnp.zeros((), jnp.int32), grad_norm_ema)


def train_step(
    state: State,
    batch: Batch,
    *,
    static: Any,
    optimizer: optax.GradientTransformation,
    config: OptimConfig,
    seed: int,
) -> tuple[State, Metrics]:
    """Gradient of the mean loss of all rows on all devices, and one update.

    Where loss, gradient or update is not finite, or the gradient is a spike (`Spikes`), model, moving average and
    optimizer (its count included) stay as they are.
    """
    key = jr.fold_in(jr.key(seed), state.step)

    def loss(arrays: Any, part: Batch) -> tuple[Array, Any]:
        total, count, extras = eqx.combine(arrays, static).loss(part, key)
        return total, (total, count, extras)

    def gradient(part: Batch) -> Any:
        (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(state.model, part)
        return grads, sums

    # Sums over images are divided once, by the count of the whole batch: a mean of means would weigh images unequally.
    grads, (loss_sum, count, extras) = accumulated(gradient, batch, config.accumulate)
    grads = jax.tree.map(lambda g: g / jnp.maximum(count, 1).astype(g.dtype), grads)
    updates, opt = optimizer.update(grads, state.optimizer, state.model)
    model = optax.apply_updates(state.model, updates)
    ema = None if state.ema is None else ema_update(state.ema, model, config.ema, state.step)
    grad_norm = optax.tree.norm(grads)
    learn = jnp.isfinite(loss_sum) & jnp.isfinite(grad_norm) & jnp.isfinite(optax.tree.norm(updates))
    grad_norm_ema = None
    if config.skip is not None:
        learn &= ~is_spike(grad_norm, state.grad_norm_ema, state.step, config.skip)
        grad_norm_ema = update_grad_norm_ema(grad_norm, state.grad_norm_ema, state.step, config.skip)
    model, ema, opt = jax.tree.map(partial(jnp.where, learn), (model, ema, opt), state[:3])
    row = batch.row
    metrics = Metrics(
        loss_sum=loss_sum,
        count=count,
        extras=extras,
        images=used_slots(row.segment_ids, row.grids.shape[-2]).sum(dtype=jnp.int32),
        tokens=(row.segment_ids > 0).sum(dtype=jnp.int32),
        places=jnp.asarray(row.segment_ids.size, jnp.int32),
        grad_norm=grad_norm,
        refused=~learn,
    )
    return State(model, ema, opt, state.step + 1, grad_norm_ema), metrics


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


def ema_update(ema: Any, model: Any, decay: float, step: Int[Array, ""]) -> Any:
    """decay · ema + (1 − decay) · model.

    Choice: the decay is at most (1 + t) / (10 + t) at step t, so that the start is soon forgotten.
    """
    t = step.astype(jnp.float32)
    keep = jnp.minimum(decay, (1 + t) / (10 + t))
    return jax.tree.map(lambda a, m: a + (1 - keep).astype(a.dtype) * (m - a), ema, model)


def is_spike(norm: Array, ema: Array, step: Int[Array, ""], skip: Spikes) -> Bool[Array, ""]:
    """Whether a gradient norm is above `factor` times its running mean, once that has seen `window` norms."""
    return _is_known(ema, step, skip) & (norm.astype(ema.dtype) > skip.factor * ema)


def update_grad_norm_ema(norm: Array, ema: Array, step: Int[Array, ""], skip: Spikes) -> Float[Array, ""]:
    """The running mean after a step: it takes in min(norm, factor · mean) by 1 / min(t + 1, window) at step t.

    A norm that is not finite is left out.
    """
    norm = norm.astype(ema.dtype)
    limited = jnp.where(_is_known(ema, step, skip), jnp.minimum(norm, skip.factor * ema), norm)
    taken = jnp.where(jnp.isfinite(norm), limited, ema)
    return ema + (taken - ema) / jnp.minimum(step + 1, skip.window).astype(ema.dtype)


def _is_known(ema: Array, step: Int[Array, ""], skip: Spikes) -> Bool[Array, ""]:
    return (step >= skip.window) & (ema > 0)
