"""One training and what came of it: the pieces of `train.py`, without a run folder."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jax.sharding import AxisType, Mesh

from data.plan import NOTHING
from data.rows import PlannedRows
from data.sampling.patch_size import OneSize
from data.sampling.resolution import Resolution
from data.sampling.token_selection import AtRandom
from data.sources.source import Source
from data.tasks import DataTask
from experiments.kept import kept
from experiments.settings import AnySetting, Setting, name, setting, with_kernel
from harness.config import Config, DataConfig
from harness.cost import row_cost
from harness.evaluation.predictions import model_for_patch
from harness.resolve import resolve
from harness.run.loading import evaluation_rows, open_source, open_task, training_batches, training_rows
from harness.run.warm_start import shape_from, warm_start
from navit_eqx import Model, ModelInfo, load_model, save_model
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.inference import predict
from navit_eqx.rows import to_device
from navit_eqx.tasks import PreparedTask
from navit_eqx.tasks.config import Distill, Task
from navit_eqx.training.config import OptimConfig
from navit_eqx.training.program import Program, make_program
from navit_eqx.training.step import Metrics, State
from reference.evaluation.cost import row_flops
from reference.rows import Row

MOST_POSITIONS = 65_536  # largest table; a grid of that side is in no experiment


def trial(config: Config, settings: Sequence[AnySetting], keep: Path | None = None) -> dict:
    """Train, then evaluate every validation image once at each setting; save the model in `keep` where that is given.

    Trials of one process share decoded images, evaluation batches, and compiled programs where shapes agree;
    nothing that a result depends on. Raises FloatingPointError where the loss is not finite.
    """
    start = time.perf_counter()
    val = source(config, "val")
    model, config, task, spent = model_after(config, keep)
    trained = time.perf_counter()
    accuracy = {name(given): accuracy_of(model, config, val, task, setting(given)) for given in settings}
    return {
        "accuracy": accuracy,
        **spent,
        "train_seconds": trained - start,
        "seconds": time.perf_counter() - start,
    }


def model_after(config: Config, keep: Path | None = None) -> tuple[Model, Config, DataTask, dict]:
    """The model after all steps, its resolved configuration and its task; what was seen and spent. It is kept in `keep`
    where that is given, and read where it is kept.   Raises FloatingPointError where the loss is not finite."""
    train = source(config, "train")
    config, _ = shape_from(config)
    prepared, task = open_task(config, train.manifest)
    config, _ = resolve(replace(config, task=prepared.config), train.manifest, task)
    if keep and (found := read(keep)):
        return found[0], config, task, found[1]
    program = compiled(config.model, shared(config.task), config.optim, config.total_steps)
    program = program._replace(device_targets=prepared.device_targets)
    state, sums = learn(config, training_rows(config, train, task), task, program)
    model = program.model(state.eval_params).for_inference()
    seen = {**spent(sums), "flops": training_flops(config, prepared.data.get("sizes"))}
    if keep:
        save_model(keep, model, ModelInfo(train.manifest.classes, trained_on=train.manifest.where))
        beside(keep).write_text(json.dumps(seen))
    return model, config, task, seen


def read(keep: Path) -> tuple[Model, dict] | None:
    """A model that was kept, and what was seen and spent for it; None where one of both is not there."""
    if not (kept(keep) and beside(keep).exists()):
        return None
    return load_model(keep), json.loads(beside(keep).read_text())


def beside(keep: Path) -> Path:
    """The file of what was seen and spent."""
    return keep.with_name(f"{keep.name}.json")


def learn(config: Config, rows: PlannedRows, task: DataTask, program: Program) -> tuple[State, Metrics]:
    """The state after all steps, and the sums of what was measured.

    Raises FloatingPointError where the loss is not finite.
    """
    state = first_state(config, rows.source.manifest.classes, program)
    stream = training_batches(config, task, rows)()
    steps = []
    for _ in range(config.total_steps):
        state, metrics = program.step(state, program.device_batch(next(stream)))
        steps.append(metrics)
    stream.close()
    sums = jax.tree.map(lambda *values: float(np.sum(values)), *jax.device_get(steps))
    if not np.isfinite(sums.loss_sum):
        raise FloatingPointError(f"the loss of seed {config.seed} became {sums.loss_sum}: lower optim.lr")
    return state, sums


def first_state(config: Config, classes: tuple[str, ...], program: Program) -> State:
    """Before the first step: a fresh model, or the one that the configuration starts from."""
    state = program.init_state(jr.key(config.seed))
    if not config.start:
        return state
    model = warm_start(program.model(jax.device_get(state.model)), config, classes)
    return program.state_from(jax.device_get(eqx.filter(model, eqx.is_inexact_array)))


def spent(sums: Metrics) -> dict:
    """Images and tokens of the training, and the mean of each other measure of the task over them."""
    means = {f"train_{measure}": float(total / sums.count) for measure, total in sums.extras.items()}
    return {"images": int(sums.images), "tokens": int(sums.tokens), **means}


@lru_cache
def compiled(
    model: ModelConfig, task: Task, optim: OptimConfig, steps: int, build: Callable[..., Any] = Model
) -> Program:
    """The program that all seeds share, on one device: what `build` makes of (model, task, key) is trained.

    Stochastic depth, if there is any, draws the same for every seed of a configuration.
    """
    one = Mesh(np.array(jax.devices()[:1]), ("data",), axis_types=(AxisType.Auto,))
    return make_program(
        lambda key: build(model, task, key=key), PreparedTask(task), optim, steps=steps, seed=0, mesh=one
    )


def shared(task: Task) -> Task:
    """The task without the name of its teacher, so that all seeds share a program."""
    return replace(task, teacher="", digest="") if isinstance(task, Distill) else task


def training_flops(config: Config, teacher: Mapping[str, int] | None = None) -> float:
    """Spent by all steps: three times the forward pass of every row and once that of its teacher's, padding and masked
    pairs included; not what the teacher, or the model to start from, has cost. `teacher` holds its sizes."""
    (row_tokens, row_images), law = config.data.packing.shape, config.data.patch_sizes
    patch = isinstance(law, OneSize) and law.size or config.model.patch
    student = row_cost(replace(config.model, patch=patch), config.task.classes or 0, row_tokens, row_images)
    other = 0.0
    if teacher and isinstance(config.task, Distill):
        assert config.task.row_tokens, "the rows of a teacher are given, or chosen from the data"
        other = row_flops([], config.task.row_tokens, row_images, **teacher)[1]
    return config.total_steps * config.rows * (3.0 * student + other)


def sizes(config: Config) -> dict[str, int]:
    """Of a model, as `training_flops` takes those of a teacher."""
    return config.model.sizes | {"classes": config.task.classes or 0}


# evaluation -------------------------------------------------------------------------------------------


def accuracy_of(model: Model, config: Config, val: Source, task: DataTask, at: Setting) -> float:
    """Share of right answers at a setting."""
    if at.kernel != "pi":  # the model does this one by itself
        model = with_kernel(model, at.patch or model.config.patch, at.kernel)
    return accuracy_at(model, config, val, task, config.data.resolution.at(at.resolution), at.patch)


def accuracy_at(
    model: Model,
    config: Config,
    val: Source,
    task: DataTask,
    law: Resolution,
    patch: tuple[int, int] | None = None,
) -> float:
    """Share of right answers.   Raises ValueError where an image was too large for positions or rows."""
    batches = map(to_device, evaluation_batches(what_evaluation_reads(config), law, patch))
    image_ids, outputs = predict(model_for_patch(model, patch), batches)
    if len(image_ids) < len(val.manifest):
        raise ValueError(f"only {len(image_ids)} of {len(val.manifest)} images can be evaluated at {law}")
    return float(task.scores(outputs, image_ids, val.manifest).mean())


def source(config: Config, split: str) -> Source:
    """The images of a split, opened once in a process whatever else the configuration says."""
    data = DataConfig(source=config.data.source, root=config.data.root, memory=config.data.memory)
    return _opened(Config(model=ModelConfig(channels=config.model.channels), data=data), split)


_opened = lru_cache(open_source)


def what_evaluation_reads(config: Config) -> Config:
    """What evaluation batches depend on, and defaults for the rest."""
    longest = Factorised(min(config.model.posembed.longest_side, MOST_POSITIONS))
    model = {name: getattr(config.model, name) for name in ("patch", "channels", "mean", "std")}
    data = replace(config.data, dropping=NOTHING, token_selection=AtRandom(), resolution=DataConfig().resolution)
    return Config(model=ModelConfig(posembed=longest, **model), data=data, rows=config.rows)


@lru_cache
def evaluation_batches(config: Config, law: Resolution, patch: tuple[int, int] | None = None) -> tuple[Row, ...]:
    """The validation images in batches, kept for the next trial."""
    return tuple(evaluation_rows(config, source(config, "val"), law, patch=patch)[0])
