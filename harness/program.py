"""The program of a run: where its state lies, how it begins, and a step of it, for all who train."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.random as jr
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from data.lessons import Lesson
from navit_eqx import NaViT
from navit_eqx.compiling import ONCE, often
from navit_eqx.optim import optimiser
from navit_eqx.sharding import each_its_rows, everywhere, placed, shardings, split_rows
from navit_eqx.train import State, init, train_step
from reference.types import Row

from .config import Config
from .teaching import apart


class Program(NamedTuple):
    """Each of its functions is compiled when it is first called."""

    mesh: Mesh
    static: Any
    """What in a model is no array."""
    like: State
    """Shape, dtype and place of each leaf of the state."""
    fresh: Callable[[PRNGKeyArray], State]
    """The state before the first step."""
    begun: Callable[[Any], State]
    """The same, with the arrays of a model."""
    step: Any
    """(state, what is `given`) → (state, metrics); the state that went in is used up."""
    teacher: NaViT | None

    def model(self, arrays: Any) -> NaViT:
        """With its arrays, those of a state."""
        return eqx.combine(arrays, self.static)

    def given(self, batch: Row | Lesson) -> tuple:
        """What a step reads beside the state: this host's share of the rows; a teacher, and what it sees of them."""
        student, shown = apart(batch)
        rows = split_rows(student, self.mesh)
        return (rows,) if shown is None else (rows, self.teacher, split_rows(shown, self.mesh))


def program_of(
    config: Config, mesh: Mesh, teacher: NaViT | None = None, build: Callable[[PRNGKeyArray], Any] | None = None
) -> Program:
    """Of a configuration with nothing left open; `build` makes another model than it says."""
    build = build or (lambda key: NaViT(config.model, key=key))
    tx = optimiser(config.optim, config.steps)
    begin = partial(init, optimiser=tx, config=config.optim)
    arrays, static = eqx.partition(eqx.filter_eval_shape(build, jr.key(0)), is_shape)
    shapes = jax.eval_shape(begin, arrays)
    places = shardings(shapes, config.mesh, mesh)
    step = partial(train_step, static=static, loss=config.loss, optimiser=tx, config=config.optim, seed=config.seed)
    out = places, everywhere(mesh)
    return Program(
        mesh,
        static,
        placed(shapes, places),
        jax.jit(lambda key: begin(build(key)), out_shardings=places, compiler_options=ONCE),
        jax.jit(begin, out_shardings=places),
        jax.jit(each_its_rows(step, mesh), donate_argnums=0, out_shardings=out, compiler_options=often()),
        None if teacher is None else jax.device_put(teacher, everywhere(mesh)),
    )


def is_shape(leaf: Any) -> bool:
    """A place for an array."""
    return isinstance(leaf, jax.ShapeDtypeStruct)
