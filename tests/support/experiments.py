"""What the tests of experiments share: the smallest training, and a program whose start needs no compilation."""

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax

from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sources.digits import Digits
from experiments.bed import bed
from experiments.trial import compiled
from navit_eqx import Model, ModelInfo, save_model
from navit_eqx.config import ModelConfig
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import abstract_model
from navit_eqx.training.optim import optimizer
from navit_eqx.training.step import init
from tests.support.strategies import filled

DIGITS = tuple("0123456789")

TINY = replace(
    bed(2, resolution=Native(0.4, 0.4)),
    model=ModelConfig((8, 8), width=8, depth=1, heads=1, mlp_width=8, unroll=1, dtype="float32"),
    rows=2,
)
TINY = replace(TINY, data=replace(TINY.data, source=Digits(64, 12), packing=Packing(row_tokens=16, row_images=8)))


def model_of(config: ModelConfig, seed: int = 0) -> Model:
    """A classifier of digits in float32, made without compiling anything."""
    return filled(abstract_model(config, Classify(classes=10)), seed, "float32")


def saved(folder: Path, config: ModelConfig, seed: int = 0) -> Model:
    """Such a model, saved in a folder."""
    model = model_of(config, seed)
    save_model(folder, model, ModelInfo(DIGITS))
    return model


def filled_program(model, task, optim, steps):
    """As `experiments.trial.compiled`, from a model and by an `init` that are not compiled."""
    program = compiled(model, task, optim, steps)
    tx = optimizer(optim, steps)
    fresh = eqx.filter(filled(abstract_model(model, task), 0, "float32"), eqx.is_array)
    where = jax.tree.map(lambda leaf: leaf.sharding, program.abstract_state)
    place = lambda arrays: jax.device_put(init(arrays, tx, optim), where)
    return program._replace(init_state=lambda key: place(fresh), state_from=place)
