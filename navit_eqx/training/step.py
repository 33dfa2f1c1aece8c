"""One train step as a pure function of (state, batch)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, Int

from ..layers import expand
from ..masks import used_slots
from ..rows import Batch, micro_batches
from .config import OptimConfig, Spikes
from .embedded import own_loss
from .frozen import merge, partition


class State(NamedTuple):
    """The training state."""

    model: Any
    """Arrays of the model; its other part is static."""
    ema: Any
    """Moving average of `model`; None without one."""
    optimizer: Any
    """State of the optimizer."""
    step: Int[Array, ""]
    grad_norm_ema: Any = None
    """Moving average of the gradient norm; None unless spikes are skipped."""
    best: Any = None
    """Parameters with the best validation score so far; None unless they are selected."""

    @property
    def eval_params(self) -> Any:
        """The parameters to evaluate and to save: the moving average, where there is one."""
        return self.model if self.ema is None else self.ema


class Metrics(NamedTuple):
    """Metrics of one train step, over all images of the global batch."""

    loss_sum: Float[Array, ""]
    count: Int[Array, ""]
    """Divisor of the sums: images, or another count of the task."""
    extras: dict[str, Array]
    """Sums of other metrics of the task, to be divided by `count` as well."""
    images: Int[Array, ""]
    tokens: Int[Array, ""]
    places: Int[Array, ""]
    """Tokens and padding."""
    pairs: Float[Array, ""]
    """Σ over images of tokens², which the cost of attention is proportional to."""
    grad_norm: Float[Array, ""]
    """Global norm before clipping."""
    refused: Bool[Array, ""]
    """Whether the update was skipped: a value was not finite, or the gradient norm was a spike."""


def init(model: Any, optimizer: optax.GradientTransformation, config: OptimConfig, best: bool = False) -> State:
    """The state before the first step, with a place for the best parameters if `best`."""
    arrays = eqx.filter(model, eqx.is_inexact_array)
    ema = jax.tree.map(jnp.copy, arrays) if config.ema else None
    grad_norm_ema = jnp.zeros((), jnp.float32) if config.skip else None
    kept = jax.tree.map(jnp.copy, arrays) if best else None
    optimizer_state = optimizer.init(partition(arrays, config.frozen)[0])
    return State(arrays, ema, optimizer_state, jnp.zeros((), jnp.int32), grad_norm_ema, kept)


def train_step(
    state: State,
    batch: Batch,
    *,
    static: Any,
    optimizer: optax.GradientTransformation,
    config: OptimConfig,
    seed: int,
    loss_of: Callable[..., Any] = own_loss,
) -> tuple[State, Metrics]:
    """Gradient of the mean loss over all rows on all devices, and one update. `loss_of(model, batch, key)` is the loss.

    Where loss, gradient or update is not finite, or the gradient norm is a spike (`Spikes`), the update is skipped:
    model, moving average and optimizer state (its count included) are unchanged. The step count always increases.
    """
    key = jr.fold_in(jr.key(seed), state.step)
    trained, fixed = partition(state.model, config.frozen)

    def loss(trained: Any, part: Batch) -> tuple[Array, Any]:
        total, count, extras = loss_of(eqx.combine(merge(trained, fixed), static), part, key)
        return total, (total, count, extras)

    def gradient(part: Batch) -> Any:
        (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(trained, part)
        return grads, sums

    # Sums are divided once, by the count of the global batch: a mean of means would weight images unequally.
    grads, (loss_sum, count, extras) = accumulated(gradient, batch, config.accumulate)
    grads = jax.tree.map(lambda g: g / jnp.maximum(count, 1).astype(g.dtype), grads)
    updates, opt = optimizer.update(grads, state.optimizer, trained)
    model = within_limits(merge(optax.apply_updates(trained, updates), fixed), static)
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
        pairs=token_pairs(row.segment_ids, row.grids.shape[-2]),
        grad_norm=grad_norm,
        refused=~learn,
    )
    return State(model, ema, opt, state.step + 1, grad_norm_ema, state.best), metrics


def within_limits(arrays: Any, static: Any) -> Any:
    """The arrays of a model after its `after_update`; of a module without it, as they are."""
    model = eqx.combine(arrays, static)
    return eqx.filter(model.after_update(), eqx.is_inexact_array) if hasattr(model, "after_update") else arrays


def token_pairs(segment_ids: Int[Array, "*B T"], slots: int) -> Float[Array, ""]:
    """Σ over images of tokens²; padding is no image."""
    ids = segment_ids[..., None]
    of_slot = ids == expand(jnp.arange(1, slots + 1, dtype=segment_ids.dtype), ids)
    return (of_slot.sum(-2, dtype=jnp.int32).astype(jnp.float32) ** 2).sum()


def accumulated(sums: Callable[[Any], Any], batch: Any, parts: int) -> Any:
    """Σ sums(part) over `parts` equal parts of the rows, sequentially.   Raises ValueError where rows do not divide."""
    if parts == 1:
        return sums(batch)
    split = micro_batches(batch, parts, "optim.accumulate")
    shapes = jax.eval_shape(sums, jax.tree.map(lambda x: x[0], split))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def add(total, part):
        return jax.tree.map(jnp.add, total, sums(part)), None

    return jax.lax.scan(add, zeros, split)[0]


def ema_update(ema: Any, model: Any, decay: float, step: Int[Array, ""]) -> Any:
    """decay · ema + (1 − decay) · model.

    Choice: the decay is at most (1 + t) / (10 + t) at step t, so that the weight of the initial parameters fades early.
    """
    t = step.astype(jnp.float32)
    keep = jnp.minimum(decay, (1 + t) / (10 + t))
    return jax.tree.map(lambda a, m: a + (1 - keep).astype(a.dtype) * (m - a), ema, model)


def is_spike(norm: Array, ema: Array, step: Int[Array, ""], skip: Spikes) -> Bool[Array, ""]:
    """Whether a gradient norm is above `factor` times its moving average; False in the first `window` steps."""
    return _is_known(ema, step, skip) & (norm.astype(ema.dtype) > skip.factor * ema)


def update_grad_norm_ema(norm: Array, ema: Array, step: Int[Array, ""], skip: Spikes) -> Float[Array, ""]:
    """ema + (min(norm, factor · ema) − ema) / min(t + 1, window) at step t; the limit applies from step `window` on.

    A norm that is not finite is ignored.
    """
    norm = norm.astype(ema.dtype)
    limited = jnp.where(_is_known(ema, step, skip), jnp.minimum(norm, skip.factor * ema), norm)
    taken = jnp.where(jnp.isfinite(norm), limited, ema)
    return ema + (taken - ema) / jnp.minimum(step + 1, skip.window).astype(ema.dtype)


def _is_known(ema: Array, step: Int[Array, ""], skip: Spikes) -> Bool[Array, ""]:
    return (step >= skip.window) & (ema > 0)
