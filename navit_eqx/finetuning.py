"""Fine-tuning in a loop of one's own: a state and a jitted step, without sharding, checkpoints or run folder."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.random as jr
from jaxtyping import Array, Float

from .rows import Batch
from .tasks import TASKS, make_task
from .tasks.model import Model


class FinetuneState(NamedTuple):
    """What changes from step to step."""

    model: Model
    optimizer: Any
    step: int


def start(model: Model, task: Any, optimizer: Any, seed: int = 0) -> tuple[FinetuneState, Callable[..., Any]]:
    """The first state, and `step(state, batch) -> (state, mean loss)`; see `navit_eqx.finetune`."""
    if type(task) in TASKS:
        task = make_task(task, model.config.width, key=jr.key(seed))
    model = eqx.tree_at(lambda m: m.task, model, task)

    @eqx.filter_jit
    def update(model: Model, state: Any, batch: Batch, step: Any) -> tuple[Model, Any, Float[Array, ""]]:
        def mean_loss(model: Model) -> Float[Array, ""]:
            total, count, _ = model.loss(batch, jr.fold_in(jr.key(seed), step))
            return total / count

        loss, grads = eqx.filter_value_and_grad(mean_loss)(model)
        updates, state = optimizer.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, loss

    def step(state: FinetuneState, batch: Batch) -> tuple[FinetuneState, Float[Array, ""]]:
        number = jr.key_data(jr.key(state.step))[-1]  # an array, so that no step compiles anew
        model, optimizer_state, loss = update(state.model, state.optimizer, batch, number)
        return FinetuneState(model, optimizer_state, state.step + 1), loss

    return FinetuneState(model, optimizer.init(eqx.filter(model, eqx.is_inexact_array)), 0), step
