"""This project in the contest from files to weights: sources, plan, loader and compiled step of `train.py`.

feed_jax.py NAME FOLDER     NAME one of CONTESTANTS; see protocol.py
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

from benchmarks.contest.budgets import TokenBudgets
from benchmarks.contest.feeding import (
    BUDGETS,
    CROP,
    JITTER,
    PATCH,
    RATE,
    SMOOTHING,
    STEP_TOKENS,
    STRETCH,
    WARMUP,
    of_paths,
    weights,
)
from benchmarks.contest.protocol import Ready, peak_of_all, serve
from data.sampling.augment import Augment, Mix
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.resolution import TokenBudget
from data.sources.source import Source
from data.tasks import DataTask
from harness.config import Config, DataConfig
from harness.presets import caltech101
from harness.resolve import resolve
from harness.run.attention import shape_for
from harness.run.loading import evaluation_rows, open_sources, open_task, training_batches, training_rows
from harness.run.program import program_of
from navit_eqx import Model
from navit_eqx.config import ModelConfig
from navit_eqx.inference import predict
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Classify, Softmax
from navit_eqx.training.config import AdamW, Cosine, Muon, OptimConfig
from navit_eqx.training.sharding import data_mesh

ROW_TOKENS, ROW_IMAGES = max(BUDGETS), 8
FOREVER = 10_000_000  # steps of a round that has no end


def configuration(task: dict[str, Any]) -> Config:
    """The common task, or the preset as it stands where the recipe is `own`."""
    recipe = task.get("recipe")
    steps, workers, root = task.get("steps", FOREVER), task["workers"], task["root"]
    if recipe and recipe["rule"] == "own":
        base = caltech101()
        return replace(base, data=replace(base.data, root=root, workers=workers), steps=steps)
    shape = task["model"]
    augment = Augment(flip=True, crop=CROP, stretch=STRETCH - 1)
    optim = OptimConfig(lr=RATE["lr"], weight_decay=RATE["weight_decay"])
    if recipe:
        augment = replace(augment, jitter=JITTER, mix=Mix(recipe["mix"]) if recipe["mix"] else None)
        optim = OptimConfig(Muon() if recipe["rule"] == "muon" else AdamW(), lr=recipe["lr"], schedule=Cosine())
        optim = replace(optim, weight_decay=recipe["weight_decay"], warmup=WARMUP)
    return Config(
        model=ModelConfig((PATCH, PATCH), **shape, unroll=shape["depth"]),
        data=DataConfig(
            root=root,
            resolution=TokenBudgets(choices=BUDGETS, shares=tuple(weights())),
            dropping=Constant(0.0),
            augment=augment,
            packing=Packing(row_tokens=ROW_TOKENS, row_images=ROW_IMAGES),
            memory=task.get("memory", 0),
            workers=workers,
        ),
        task=Classify(Softmax(SMOOTHING if recipe else 0.0)),
        optim=optim,
        rows=STEP_TOKENS // ROW_TOKENS,
        steps=steps,
    )


class Trainer:
    """A run without its folder: each call of `steps` trains on the next batches of the loader."""

    def __init__(self, task: dict[str, Any]):
        config = configuration(task)
        self.source, self.val = open_sources(config)
        prepared, self.data_task = open_task(config, self.source.manifest)
        config, _ = resolve(replace(config, task=prepared.config), self.source.manifest, self.data_task)
        planned = training_rows(config, self.source, self.data_task)
        shape, self.found = shape_for(config, planned.epochs.locate(0)[1])
        self.config = replace(config, model=shape)
        self.program = program_of(self.config, prepared, data_mesh())
        self.state = self.program.init_state(jr.key(config.seed))
        self.stream = training_batches(config, self.data_task, planned, workers=config.data.workers)()

    def steps(self) -> Iterator[Any]:
        """Metrics of one step after the other, not waited for."""
        while True:
            self.state, metrics = self.program.step(self.state, self.program.device_batch(next(self.stream)))
            yield metrics

    def accuracy(self) -> float:
        """Of the validation images, at the largest budget or where the preset is evaluated."""
        law = self.config.data.resolution
        law = TokenBudget(ROW_TOKENS) if isinstance(law, TokenBudgets) else law.at(self.config.data.reported_at)
        model = self.program.model(jax.device_get(self.state.eval_params)).for_inference()
        return accuracy_of(model, self.config, self.val, law, self.data_task)


def accuracy_of(model: Model, config: Config, val: Source, law: Any, task: DataTask) -> float:
    batches, _ = evaluation_rows(config, val, law)
    image_ids, outputs = predict(model, map(to_device, batches))
    return float(task.scores(outputs, image_ids, val.manifest).mean())


def ours(task: dict[str, Any]) -> Ready:
    """Read, pack and train on at least `images` images in a round."""
    trainer = Trainer(task)
    steps = trainer.steps()
    first = jax.block_until_ready(next(steps))
    at = time.time()

    def once(images: int = task["images"]) -> dict[str, int]:
        sums, waiting = Counter(), None
        while sums["images"] < images:
            following = next(steps)  # one step ahead of what is counted
            if waiting is not None:
                sums.update(counted(waiting))
            waiting = following
        sums.update(counted(waiting))
        return dict(sums)

    manifest = trainer.source.manifest
    about = {
        **{"digest": of_paths(manifest.names.tolist()), "classes": len(manifest.classes), "first_step_at": at},
        **{"first_loss": float(first.loss_sum / first.count), "attention": str(trainer.config.model.attention)},
        "parameters": sum(int(np.prod(x.shape)) for x in jax.tree.leaves(trainer.state.eval_params)),
    }
    return Ready(once, about, peak_of_all, partial(once, task["untimed"]))


def counted(metrics: Any) -> dict[str, int]:
    """Amounts of a step, when it has ended."""
    return {"steps": 1, **{key: int(getattr(metrics, key)) for key in ("images", "tokens", "places")}}


def learn(task: dict[str, Any]) -> dict[str, Any]:
    """Train to the end; accuracy and training time at every evaluation."""
    start = time.perf_counter()
    trainer, curve, evaluating, images = Trainer(task), [], 0.0, 0
    for number, metrics in enumerate(trainer.steps(), 1):
        images += int(metrics.images)
        if number % task["every"] == 0 or number == task["steps"]:
            spent, began = time.perf_counter() - start - evaluating, time.perf_counter()
            curve.append({"step": number, "images": images, "seconds": spent, "accuracy": trainer.accuracy()})
            evaluating += time.perf_counter() - began
        if number == task["steps"]:
            break
    assert math.isfinite(float(metrics.loss_sum)), "the loss is not finite"
    trainer.stream.close()
    return {"curve": curve}


CONTESTANTS: dict[str, Callable[[dict[str, Any]], Ready]] = {
    "ours": ours,
    "ours-memory": lambda task: ours(task | {"memory": 2}),
}


def prepare(name: str, task: dict[str, Any], folder: Path) -> Ready:
    return Ready(dict, learn(task), peak_of_all) if "recipe" in task else CONTESTANTS[name](task)


if __name__ == "__main__":
    serve(prepare)
