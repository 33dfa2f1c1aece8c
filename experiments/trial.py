"""One training and what came of it, by the project's own pieces and without a run folder."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

from data.pipeline import batches
from data.plan import NOTHING
from data.rows import PlannedRows
from data.sampling.patch_size import OneSize
from data.sampling.resolution import Resolution
from data.sampling.token_selection import AtRandom
from data.sources.source import Source
from data.tasks.distill import LessonRows
from experiments.views import Seen, View, name, view, with_kernel
from harness import resolve as choose
from harness.config import Config, DataConfig
from harness.cost import row_cost
from harness.run.loading import evaluation_batches, open_source, training_lessons, training_rows
from harness.run.teacher import Teacher, apart, open_teacher
from harness.run.warm_start import begin, shape_from
from navit_eqx import NaViT, save_model
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.inference import predict
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Distill, Loss
from navit_eqx.training.compiling import step_compiler_options
from navit_eqx.training.config import OptimConfig
from navit_eqx.training.optim import optimizer
from navit_eqx.training.step import Metrics, State, init, train_step
from reference.rows import Row


def trial(config: Config, views: Sequence[Seen], keep: Path | None = None) -> dict:
    """Train, then see every validation image once in each way; save the model in `keep` where that is given.

    Trials of one process share decoded images, evaluation batches, and compiled programs where shapes agree;
    nothing that a result depends on. Raises FloatingPointError where the loss is not finite.
    """
    begun = time.perf_counter()
    train, val = source(config.data, "train"), source(config.data, "val")
    config, _ = shape_from(config)
    teacher = open_teacher(config.loss, train.manifest)
    config, _ = choose.resolve(config, train.manifest, teacher)
    program = compiled(config.model, config.optim, blind(config.loss), config.steps)
    rows = seen_in_training(config, train, teacher)
    state, sums = learn(config, rows, program, partial(begin, config=config, classes=train.manifest.classes), teacher)
    trained = time.perf_counter()
    model = eqx.combine(state.eval_params, program.static)
    if keep:
        save_model(keep, model, config.model, {"classes": list(train.manifest.classes)})
    accuracy = {name(seen): accuracy_of(model, config, val, view(seen)) for seen in views}
    return {
        "accuracy": accuracy,
        **spent(sums),
        "flops": training_flops(config, teacher.shape if teacher else None),
        "train_seconds": trained - begun,
        "seconds": time.perf_counter() - begun,
    }


def learn(
    config: Config,
    rows: PlannedRows | LessonRows,
    program: "Program",
    change: Callable[[NaViT], NaViT] = lambda fresh: fresh,
    teacher: Teacher | None = None,
) -> tuple[State, Metrics]:
    """The state after all steps, and the sums of what was measured; `change` makes of the fresh model the one to begin
    with.   Raises FloatingPointError where the loss is not finite."""
    state = program.start(jr.key(config.seed), change)
    stream = batches(rows, config.rows)
    steps = []
    for _ in range(config.steps):
        student, shown = apart(next(stream))
        taught = (teacher.model, to_device(shown)) if teacher and shown else ()
        state, metrics = program.step(state, to_device(student), *taught)
        steps.append(metrics)
    stream.close()
    sums = jax.tree.map(lambda *values: float(np.sum(values)), *jax.device_get(steps))
    if not np.isfinite(sums.loss):
        raise FloatingPointError(f"the loss of seed {config.seed} became {sums.loss}: lower optim.lr")
    return state, sums


def spent(sums: Metrics) -> dict:
    """What was seen, and how well it was known when it was seen."""
    return {
        "images": int(sums.images), "tokens": int(sums.tokens), "train_accuracy": float(sums.correct / sums.images),
    }  # fmt: skip


def seen_in_training(config: Config, train: Source, teacher: Teacher | None) -> PlannedRows | LessonRows:
    """Rows; with a teacher in pairs."""
    shown = None if teacher is None else teacher.view(config.loss)
    rows = training_rows(config, train, shown)
    return rows if shown is None else training_lessons(config, rows, shown)


def blind(loss: Loss) -> Loss:
    """The loss without what only says who teaches, so that all seeds share a program."""
    return Distill(form=loss.form) if isinstance(loss, Distill) else loss


def training_flops(config: Config, teacher: ModelConfig | None = None) -> float:
    """Spent by all steps: three times the forward pass of every row and once that of its teacher's, padding and masked
    pairs included; not what the teacher, or the model to start from, has cost."""
    packing, law = config.data.packing, config.data.patch_sizes
    size = isinstance(law, OneSize) and law.size or config.model.patch_size  # of the patches in the rows
    student = row_cost(replace(config.model, patch_size=size), packing.row_tokens, packing.row_images)
    taught = 0.0
    if teacher and isinstance(config.loss, Distill):
        taught = row_cost(teacher, config.loss.row_tokens, packing.row_images)
    return config.steps * config.rows * (3.0 * student + taught)


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
    data = replace(config.data, dropping=NOTHING, token_selection=AtRandom(), resolution=DataConfig().resolution)
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
def compiled(shape: ModelConfig, optim: OptimConfig, loss: Loss, steps: int, kind: type[NaViT] = NaViT) -> Program:
    """(key, what becomes of the fresh model) → state; (state, batch) → (state, metrics); and what in the model is no
    array.

    Stochastic depth, if there is any, draws the same for every seed of a configuration.
    """
    tx = optimizer(optim, steps)
    like = eqx.filter_eval_shape(kind, shape, key=jr.key(0))
    static = eqx.filter(like, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct), inverse=True)
    step = partial(train_step, static=static, loss=loss, optimizer=tx, config=optim, seed=0)
    return Program(
        lambda key, change: init(change(kind(shape, key=key)), tx, optim),  # leaf by leaf: else it compiles for longer
        jax.jit(step, donate_argnums=0, compiler_options=step_compiler_options()),
        static,
    )
