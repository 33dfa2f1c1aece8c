"""Fine-tuning in a custom loop: a state and a jitted step, without sharding, checkpoints or run folder."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from .rows import Batch
from .tasks import TASKS, make_task
from .tasks.model import Model


class FinetuneState(NamedTuple):
    """Model, optimizer state and number of steps."""

    model: Model
    optimizer: Any
    step: Int[Array, ""]


Step = Callable[[FinetuneState, Batch], tuple[FinetuneState, Float[Array, ""]]]


def start(model: Model, task: Any, optimizer: Any, seed: int = 0) -> tuple[FinetuneState, Step]:
    """The initial state, and `step(state, batch) -> (state, mean loss)`; see `navit_eqx.finetune`."""
    if type(task) in TASKS:
        task = make_task(task, model.config.out_width, key=jr.key(seed))
    model = eqx.tree_at(lambda m: m.task, model, task)

    @eqx.filter_jit
    def step(state: FinetuneState, batch: Batch) -> tuple[FinetuneState, Float[Array, ""]]:
        def mean_loss(model: Model) -> Float[Array, ""]:
            total, count, _ = model.loss(batch, jr.fold_in(jr.key(seed), state.step))
            return total / jnp.maximum(count, 1).astype(total.dtype)

        loss, grads = eqx.filter_value_and_grad(mean_loss)(state.model)
        arrays = eqx.filter(state.model, eqx.is_inexact_array)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, arrays)
        return FinetuneState(eqx.apply_updates(state.model, updates), optimizer_state, state.step + 1), loss

    optimizer_state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
    return FinetuneState(model, optimizer_state, jnp.zeros((), jnp.int32)), step
