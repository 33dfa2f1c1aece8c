"""One training and what came of it, by the project's own pieces and without a run folder."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

from data.laws import AtRandom, Resolution
from data.pipeline import batches
from data.plan import NOTHING
from data.sources import Source
from harness import choose
from harness.config import Config, DataConfig
from harness.cost import row_cost
from harness.loading import evaluation_batches, open_source, training_rows
from navit_eqx import NaViT
from navit_eqx.config import Factorised, Loss, ModelConfig, OptimConfig
from navit_eqx.evaluate import predict
from navit_eqx.model import blueprint
from navit_eqx.optim import optimiser
from navit_eqx.train import init, train_step
from navit_eqx.types import to_device
from reference.types import Row

from .views import Seen, View, name, view, with_kernel


def trial(config: Config, views: Sequence[Seen]) -> dict:
    """Train, then see every validation image once in each way.

    Trials of one process share decoded images, evaluation batches, and compiled programs where shapes agree;
    nothing that a result depends on. Raises FloatingPointError where the loss is not finite.
    """
    begun = time.perf_counter()
    train, val = source(config.data, "train"), source(config.data, "val")
    config, _ = choose.resolve(config, train.manifest)
    program = compiled(config.model, config.optim, config.loss, config.steps)
    state = program.start(jr.key(config.seed))
    stream = batches(training_rows(config, train), config.rows)
    steps = []
    for _ in range(config.steps):
        state, metrics = program.step(state, to_device(next(stream)))
        steps.append(metrics)
    stream.close()
    sums = jax.tree.map(lambda *values: float(np.sum(values)), *jax.device_get(steps))
    if not np.isfinite(sums.loss):
        raise FloatingPointError(f"the loss of seed {config.seed} became {sums.loss}: lower optim.lr")
    trained = time.perf_counter()
    model = eqx.combine(state.best, program.static)
    accuracy = {name(seen): accuracy_of(model, config, val, view(seen)) for seen in views}
    return {
        "accuracy": accuracy,
        "images": int(sums.images),
        "tokens": int(sums.tokens),
        "flops": training_flops(config),
        "train_accuracy": sums.correct / sums.images,
        "train_seconds": trained - begun,
        "seconds": time.perf_counter() - begun,
    }


def training_flops(config: Config) -> float:
    """Spent by all steps: three times the forward pass of every row, padding and masked pairs included."""
    packing = config.data.packing
    return 3.0 * config.steps * config.rows * row_cost(config.model, packing.row_tokens, packing.row_images)


def accuracy_of(model: NaViT, config: Config, val: Source, seen_as: View) -> float:
    """Share of right answers in a view."""
    resolution, patch_size, kernel = seen_as
    if kernel != "pi":  # which the model does by itself
        model = with_kernel(model, config.model, patch_size, kernel)
    return accuracy_at(model, config, val, config.data.resolution.at(resolution), patch_size)


def accuracy_at(model: NaViT, config: Config, val: Source, law: Resolution, patch_size: int = 0) -> float:
    """Share of right answers.   Raises ValueError where an image was too large to be seen."""
    seen = predict(model, map(to_device, evaluation(sight(config), law, patch_size)))
    if len(seen.labels) < len(val.manifest):
        raise ValueError(f"only {len(seen.labels)} of {len(val.manifest)} images can be seen at {law}")
    return seen.accuracy


def source(data: DataConfig, split: str) -> Source:
    """The images of a split, opened once in a process whatever else the configuration says."""
    return _opened(DataConfig(source=data.source, root=data.root, memory=data.memory), split)


_opened = lru_cache(open_source)


def sight(config: Config) -> Config:
    """What evaluation batches depend on, and defaults for the rest."""
    shape = ModelConfig(config.model.patch_size, posembed=Factorised(config.model.posembed.longest_side))
    data = replace(config.data, dropping=NOTHING, choosing=AtRandom(), resolution=DataConfig().resolution)
    return Config(model=shape, data=data, rows=config.rows)


@lru_cache
def evaluation(config: Config, law: Resolution, patch_size: int = 0) -> tuple[Row, ...]:
    """The validation images in batches, kept for the next trial."""
    return tuple(evaluation_batches(config, source(config.data, "val"), law, patch_size=patch_size)[0])


class Program(NamedTuple):
    """What all seeds share."""

    start: Callable
    step: Callable
    static: Any


@lru_cache
def compiled(shape: ModelConfig, optim: OptimConfig, loss: Loss, steps: int) -> Program:
    """Key → state; (state, batch) → (state, metrics); and what in the model is no array.

    Stochastic depth, if there is any, draws the same for every seed of a configuration.
    """
    tx = optimiser(optim, steps)
    static = blueprint(shape)
    step = partial(train_step, static=static, loss=loss, optimiser=tx, config=optim, seed=0)
    return Program(
        lambda key: init(NaViT(shape, key=key), tx, optim),  # leaf by leaf: as one program it compiles for longer
        jax.jit(step, donate_argnums=0),
        static,
    )
