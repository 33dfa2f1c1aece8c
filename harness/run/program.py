"""The training program of a configuration."""

from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.random as jr
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from navit_eqx import Model
from navit_eqx.config import Auto, ModelConfig, Windows
from navit_eqx.tasks import PreparedTask
from navit_eqx.training.embedded import loss_of_vectors, own_loss
from navit_eqx.training.program import Program, make_program

from ..config import Best, Config


def program_of(config: Config, task: PreparedTask, mesh: Mesh | None = None) -> Program:
    """Compiled init and train step of a resolved configuration.

    The windows of a template are those of its training rows alone: the models that it gives read any rows.
    """
    program = make_program(
        partial(built, config.model, config),
        task,
        config.optim,
        steps=config.total_steps,
        seed=config.seed,
        parallelism=config.parallelism,
        mesh=mesh,
        best=isinstance(config.select, Best),
        loss_of=loss_of_vectors if config.data.embedded else own_loss,
    )
    if not isinstance(config.model.attention, Windows):
        return program
    of_any_rows = partial(built, replace(config.model, attention=Auto()), config)
    return program._replace(structure=jax.tree.structure(eqx.filter_eval_shape(of_any_rows, jr.key(0))))


def built(model: ModelConfig, config: Config, key: PRNGKeyArray) -> Model:
    """A model of this shape with the task of a configuration."""
    return Model(model, config.task, key=key)
