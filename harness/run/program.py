"""The training program of a configuration."""

from jax.sharding import Mesh

from navit_eqx import Model
from navit_eqx.tasks import PreparedTask
from navit_eqx.training.program import Program, make_program

from ..config import Best, Config


def program_of(config: Config, task: PreparedTask, mesh: Mesh | None = None) -> Program:
    """Compiled init and train step of a resolved configuration."""
    return make_program(
        lambda key: Model(config.model, config.task, key=key),
        task,
        config.optim,
        steps=config.total_steps,
        seed=config.seed,
        parallelism=config.parallelism,
        mesh=mesh,
        best=isinstance(config.select, Best),
    )
