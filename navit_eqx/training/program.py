"""Compiled init and train step of a run, with the shardings of its state."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.random as jr
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from ..rows import Batch, Row
from ..tasks import PreparedTask
from ..tasks.model import Model, is_shape
from .compiling import INIT_COMPILER_OPTIONS, step_compiler_options
from .config import FSDP, DataParallel, OptimConfig
from .embedded import own_loss
from .optim import optimizer
from .sharding import abstract_arrays, data_mesh, replicated, shard_rows, shardings, with_mesh
from .step import State, init, train_step


class Program(NamedTuple):
    """Compiled functions of a run; each is compiled on its first call."""

    mesh: Mesh
    static: Any
    """The static (non-array) part of the model."""
    abstract_state: State
    """Shape, dtype and sharding of each leaf of the state."""
    init_state: Callable[[PRNGKeyArray], State]
    """key → the state before the first step."""
    state_from: Callable[[Any], State]
    """Arrays of a model → the state before the first step."""
    step: Any
    """(state, device batch) → (state, metrics); the input state is donated."""
    device_targets: Callable[[Any], Any]
    """Target fields of the data, on the device → targets that the loss reads."""

    structure: Any = None
    """Structure of the models that the program gives, where it differs from that of training: they read any rows."""

    def model(self, arrays: Any) -> Model:
        """The model with the arrays of a state."""
        model = eqx.combine(arrays, self.static)
        return model if self.structure is None else jax.tree.unflatten(self.structure, jax.tree.leaves(model))

    def device_batch(self, batch: Any) -> Batch:
        """Rows and targets of this host → its share of the global batch, on the devices."""
        row, targets = shard_rows(tuple(batch), self.mesh)
        return Batch(Row(*row), self.device_targets(targets))


def make_program(
    build: Callable[[PRNGKeyArray], Any],
    task: PreparedTask,
    optim: OptimConfig,
    *,
    steps: int,
    seed: int,
    parallelism: DataParallel | FSDP | None = None,
    mesh: Mesh | None = None,
    best: bool = False,
    loss_of: Callable[..., Any] = own_loss,
) -> Program:
    """The program that trains `build(key)`: a `Model`, or any module with the same `loss`. With `best` its state has a
    place for the best parameters. `loss_of` is the loss of the model on a batch.

    By default parameters are replicated on all devices of `data_mesh()`.
    """
    mesh, parallelism = mesh or data_mesh(), parallelism or DataParallel()
    tx = optimizer(optim, steps)
    init_state = partial(init, optimizer=tx, config=optim, best=best)
    arrays, static = eqx.partition(eqx.filter_eval_shape(build, jr.key(0)), is_shape)
    shapes = jax.eval_shape(init_state, arrays)
    state_shardings = shardings(shapes, parallelism, mesh)
    step = partial(train_step, static=static, optimizer=tx, config=optim, seed=seed, loss_of=loss_of)
    out = state_shardings, replicated(mesh)
    return Program(
        mesh,
        static,
        abstract_arrays(shapes, state_shardings),
        jax.jit(
            lambda key: init_state(build(key)), out_shardings=state_shardings, compiler_options=INIT_COMPILER_OPTIONS
        ),
        jax.jit(init_state, out_shardings=state_shardings),
        jax.jit(with_mesh(step, mesh), donate_argnums=0, out_shardings=out, compiler_options=step_compiler_options()),
        task.device_targets,
    )
