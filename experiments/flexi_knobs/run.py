"""Three knobs of one trained model: the size of patches, their distance, or the number of blocks.   [FlexiViT]"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from data.evaluation_plan import fill_last_batch, packing_at
from data.pipeline import batches
from data.sampling.resolution import Native
from data.stream import Epochs
from data.tasks import DataTask
from experiments.claims import Claim, against_each
from experiments.flexi_bed import BASE, MIDDLE, SIZES, fixed, flexible
from experiments.flexi_knobs.knobs import AnyDepth, Strides, WindowRows, first_blocks, shallow_or_deep, windowed
from experiments.pictures import statistics
from experiments.settings import name
from experiments.trained import Experiment, main
from experiments.trial import accuracy_at, compiled, learn, source, spent, training_flops
from harness.config import Config
from harness.cost import image_cost
from harness.evaluation.pictures import COLORS, sheet
from harness.resolve import resolve
from harness.run.loading import evaluation_rows, open_task, pixels_of, training_rows
from navit_eqx import Model
from navit_eqx.config import ModelConfig
from navit_eqx.inference import predict
from navit_eqx.rows import to_device
from reference.rows import Row

DEPTH = 4
WINDOW = max(SIZES)
SIZE, STRIDE, BLOCKS = "size of patches", "distance of patches", "number of blocks"
SETTINGS = {
    SIZE: {f"{size} px": size for size in SIZES},
    STRIDE: {f"every {size} px": size for size in SIZES},
    BLOCKS: {f"{count} block{'s' * (count > 1)}": count for count in range(1, DEPTH + 1)},
}
BUDGETS = (4.0, 6.5, 9.0, 13.5)  # MFLOPs an image


def arms(steps: int) -> dict[str, Config]:
    """At the cost of so many steps of the flexible model; blocks that an image is not run through cost nothing."""
    size = deeper(flexible(steps))
    stride = deeper(flexible(steps, patch_sizes=Strides(SIZES)))
    stride = replace(stride, model=replace(stride.model, patch=(WINDOW, WINDOW)))
    blocks = deeper(fixed(steps, BASE))
    shape = {field.name: getattr(blocks.model, field.name) for field in fields(ModelConfig)}
    blocks = replace(blocks, model=AnyDepth(**shape))
    return {
        knob: replace(config, steps=round(steps * flops_of(size) / flops_of(config)))
        for knob, config in {SIZE: size, STRIDE: stride, BLOCKS: blocks}.items()
    }


def deeper(config: Config) -> Config:
    return replace(config, model=replace(config.model, depth=DEPTH, unroll=DEPTH))


def flops_of(config: Config) -> float:
    """Of a training; with any depth the mean over depths."""
    depths = range(1, config.model.depth + 1) if isinstance(config.model, AnyDepth) else [config.model.depth]
    return float(np.mean([training_flops(replace(config, model=replace(config.model, depth=d))) for d in depths]))


def trial(config: Config, settings: Sequence[float], keep: Path | None = None) -> dict:
    """Train, then evaluate every validation image once at each setting of the knob."""
    start = time.perf_counter()
    train = source(config, "train")
    prepared, task = open_task(config, train.manifest)
    config, _ = resolve(replace(config, task=prepared.config), train.manifest, task)
    build = shallow_or_deep if isinstance(config.model, AnyDepth) else Model
    program = compiled(config.model, config.task, config.optim, config.total_steps, build)
    rows = training_rows(config, train, task)
    rows = windowed(rows) if isinstance(config.data.patch_sizes, Strides) else rows
    state, sums = learn(config, rows, task, program)
    return {
        "accuracy": dict(accuracies(program.model(state.eval_params), config, task, Native(*settings, *settings))),
        **spent(sums),
        "flops": flops_of(config),
        "seconds": time.perf_counter() - start,
    }


def accuracies(model: Model, config: Config, task: DataTask, law: Native) -> Iterator[tuple[str, float]]:
    """Share of right answers at each setting."""
    val = source(config, "val")
    for label, value in SETTINGS[knob_of(config)].items():
        if isinstance(config.model, AnyDepth):
            yield label, accuracy_at(first_blocks(model, value), config, val, task, law)
        elif isinstance(config.data.patch_sizes, Strides):
            image_ids, outputs = predict(model, map(to_device, evaluation(config, law, value)))
            yield label, float(task.scores(outputs, image_ids, val.manifest).mean())
        else:
            yield label, accuracy_at(model, config, val, task, law, (value, value))


def knob_of(config: Config) -> str:
    if isinstance(config.model, AnyDepth):
        return BLOCKS
    return STRIDE if isinstance(config.data.patch_sizes, Strides) else SIZE


def evaluation(config: Config, law: Native, stride: int) -> Iterator[Row]:
    """The validation images in windows at this distance."""
    val, patch = source(config, "val"), (stride, stride)
    _, plan = evaluation_rows(config, val, law, patch=patch)
    plan = fill_last_batch(plan, config.rows)
    row_tokens, _ = packing_at(
        config.data.packing, law, val.manifest.sizes, patch, longest_side=config.model.posembed.longest_side
    ).shape
    pixels = pixels_of(config.model, mapped=False)
    rows = WindowRows(val, Epochs(lambda epoch: plan), len(plan.image_ids), pixels, row_tokens, config.seed, None)
    return batches(rows, config.rows)


@lru_cache
def mflops(knob: str, value: int) -> float:
    """Of one image at this setting: forward, mean over the validation images."""
    config = deeper(fixed(1, BASE))
    size, side, depth = {
        SIZE: (value, value, DEPTH), STRIDE: (value, WINDOW, DEPTH), BLOCKS: (BASE, BASE, value)
    }[knob]  # fmt: skip
    images = source(config, "val").manifest.sizes
    tokens = Native(MIDDLE, MIDDLE).grids(np.random.default_rng(0), images, (size, size))
    model = replace(config.model, patch=(side, side), depth=depth)
    return float(np.mean([image_cost(model, config.task.classes or 0, int(n)) for n in tokens.prod(-1)])) / 1e6


def front(knob: str) -> str:
    return f"{knob}: best within so many MFLOPs"


CLAIMS = tuple(
    Claim(f"Within {budget:g} MFLOPs the size of patches is at most a point below the other knobs",
          -0.01, against_each(front(SIZE), [front(STRIDE), front(BLOCKS)]), (budget,))
    for budget in BUDGETS
)  # fmt: skip


def read(trials: list[dict]) -> list[dict]:
    """The trials, and what each reaches within the budgets, at the setting that is best for the other seeds."""
    return trials + [within(trial, trials) for trial in trials]


def within(trial: dict, trials: Sequence[Mapping]) -> dict:
    others = [t for t in trials if t["arm"] == trial["arm"] and t["seed"] != trial["seed"]]
    cost = {said: mflops(trial["arm"], value) for said, value in SETTINGS[trial["arm"]].items()}
    best = {}
    for budget in BUDGETS:
        affordable = [said for said in cost if cost[said] <= budget]
        chosen = max(affordable, key=lambda said: sum(t["accuracy"][said] for t in others))
        best[name(budget)] = trial["accuracy"][chosen]
    return {**trial, "arm": front(trial["arm"]), "accuracy": best}


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 1) as (axis,):
        for color, (knob, settings) in zip(COLORS, SETTINGS.items()):
            cost = [mflops(knob, value) for value in settings.values()]
            mean, error = zip(*(statistics(result, knob, (said,)) for said in settings))
            axis.errorbar(cost, mean, error, fmt="o-", capsize=2, label=knob, color=color, ms=4)
            for said, x, y in zip(settings, cost, mean):
                axis.annotate(said, (x, y), xytext=(4, -10), textcoords="offset points", fontsize=7, color=color)
        axis.set(xlabel="MFLOPs per image (mean, forward)", ylabel="accuracy, % (bars: 95 % interval)", xscale="log")
        axis.set_title("One trained model and its knob, at equal FLOPs in training")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, (MIDDLE,), CLAIMS, draw, read, trial))
