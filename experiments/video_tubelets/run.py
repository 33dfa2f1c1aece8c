"""Clips of any length in one row: three shapes of tubelets or one, from images or from nothing.   [NaViT, §3.6]"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.sampling.resolution import Clips, Native
from data.sources.moving_digits import MovingDigits
from experiments.bed import STEPS
from experiments.claims import Claim
from experiments.pictures import dots
from experiments.trained import Experiment, main
from experiments.trial import compiled, first_state, model_after, source, training_flops
from harness.config import Config
from harness.evaluation.pictures import sheet
from harness.evaluation.predictions import context_of
from harness.resolve import resolve
from harness.run.loading import open_task, training_batches, training_rows
from harness.run.warm_start import shape_from
from harness.video_presets import video_digits
from navit_eqx.tasks.config import Classify

BUDGET = {"stills": 2e12, "clips": 2.6e12}  # FLOPs of a training at the default number of steps
MARKS = 10  # evaluations on the way
GOAL = 0.6  # accuracy, the steps to which are counted
SHARE = 0.67  # of the steps from nothing, in which a start from images must reach it
FULL = 0.995  # share of token places that hold a token
STILLS, THREE, NOTHING, ONE = "stills", "three shapes", "three shapes, from nothing", "one shape"
SINGLE, SHUFFLED = "a single frame", "frames in random order"
ACCURACY, REACHED, FILLED = "accuracy", "share of the steps to .6", "filled"


def arms(steps: int) -> dict[str, Config]:
    """Trainings of equal FLOPs; a rehearsal of a few steps has few clips."""
    known = video_digits()
    clips = MovingDigits(val_images=1_000) if steps > 9 else MovingDigits(64, 24)
    law = Clips(Native(0.8, 1.0), frames=(4, 8, 12, 16, 24), stride=1)
    data = replace(known.data, source=clips, resolution=law)
    three = replace(known, data=data, task=Classify(classes=8), start=STILLS)
    assert known.model.tubelets
    tubelets = replace(
        known.model.tubelets, shapes=known.model.tubelets.shapes[:1], strides=known.model.tubelets.strides[:1]
    )
    one = replace(three, model=replace(known.model, tubelets=tubelets))
    with_law = lambda changed: replace(three, data=replace(data, resolution=changed))
    found = {
        STILLS: stills(known, clips),
        THREE: three,
        NOTHING: replace(three, start=""),
        ONE: one,
        SINGLE: with_law(replace(law, frames=(1,))),
        SHUFFLED: with_law(replace(law, order="shuffled")),
    }
    return {name: with_steps(config, BUDGET["stills" if name == STILLS else "clips"] * steps / STEPS)
            for name, config in found.items()}  # fmt: skip


def stills(known: Config, clips: MovingDigits) -> Config:
    """A model of images that names the digit in the lit box."""
    images = replace(clips, stills=True, task="digit")
    data = replace(known.data, source=images, resolution=Native(0.8, 1.0))
    return replace(known, model=replace(known.model, patch=(8, 8), tubelets=None), data=data, task=Classify(classes=10))


def with_steps(config: Config, flops: float) -> Config:
    """As many steps as these FLOPs pay for."""
    return replace(config, steps=max(1, round(flops / training_flops(replace(config, steps=1)))))


def trial(config: Config, settings: Sequence[str], keep: Path | None = None) -> dict:
    """Train, evaluate on the way and at the end."""
    start = time.perf_counter()
    if config.model.tubelets is None:
        model, config, task, spent = model_after(config, keep)
        context = context_of(model, config, source(config, "val"), task)
        found = {"digit of a still": context.predict(context.sampling_at(1.0)).score[0]}
        return {"accuracy": found, **spent, "seconds": time.perf_counter() - start}
    curve, spent = learning_curve(config)
    places = config.total_steps * config.rows * config.data.packing.shape[0]
    reached = [k + 1 for k, value in enumerate(curve) if value >= GOAL]
    return {
        "accuracy": {
            ACCURACY: curve[-1],
            REACHED: reached[0] / len(curve) if reached else 2.0,  # never: twice the steps
            FILLED: spent["tokens"] / places,
        },
        "curve": curve,
        "flops": training_flops(config),
        **spent,
        "seconds": time.perf_counter() - start,
    }


def learning_curve(config: Config) -> tuple[list[float], dict[str, int]]:
    """Accuracy at MARKS marks of the training, and the clips (`images`) and tokens of all steps."""
    train, val = source(config, "train"), source(config, "val")
    config, _ = shape_from(config)
    prepared, task = open_task(config, train.manifest)
    config, _ = resolve(replace(config, task=prepared.config), train.manifest, task)
    program = compiled(config.model, config.task, config.optim, config.total_steps)
    program = program._replace(device_targets=prepared.device_targets)
    rows = training_rows(config, train, task)
    state, stream = first_state(config, train.manifest.classes, program), training_batches(config, task, rows)()
    marks = {round(config.total_steps * (k + 1) / MARKS) for k in range(MARKS)}
    curve, spent = [], {"images": 0, "tokens": 0}
    for step, batch in zip(range(1, config.total_steps + 1), stream):
        state, metrics = program.step(state, program.device_batch(batch))
        spent["images"] += int(metrics.images)
        spent["tokens"] += int(metrics.tokens)
        if step in marks:
            context = context_of(program.model(state.eval_params).for_inference(), config, val, task)
            curve.append(context.predict(context.sampling_at(1.0)).score[0])
    stream.close()
    return curve, spent


LEVELS = {
    ".85": 0.85,
    "chance and two errors": 1 / 8 + 2 * np.sqrt(7 / 64 / 1_000),
    "a half and two errors": 0.5 + 0.0316,
}
LESS = f"{SHARE:g} of the steps from nothing"


def read(trials: list[dict]) -> list[dict]:
    """The trials of clips, and the levels with which they are compared."""
    clips = [t for t in trials if t["arm"] != STILLS]
    found = list(clips)
    for t in clips:
        if t["arm"] == NOTHING:
            found.append(t | {"arm": LESS, "accuracy": {REACHED: SHARE * t["accuracy"][REACHED]}})
        if t["arm"] == THREE:
            found += [t | {"arm": name, "accuracy": {ACCURACY: level}} for name, level in LEVELS.items()]
            found.append(t | {"arm": "full rows", "accuracy": {FILLED: FULL}})
    return found


CHANCE, HALF = "chance and two errors", "a half and two errors"
CLAIMS = (
    Claim("Clips of all durations leave half a per cent of padding at most", 0.0,
          (((THREE,), ("full rows",)),), (FILLED,)),
    Claim("The direction is read in 85 % of the clips", 0.0, (((THREE,), (".85",)),), (ACCURACY,)),
    Claim("A single frame is at chance, frames in random order at a half (leak arms)", 0.0,
          (((CHANCE,), (SINGLE,)), ((HALF,), (SHUFFLED,))), (ACCURACY,)),
    Claim("Started from a model of images, 60 % are reached in two thirds of the steps from nothing", 0.0,
          (((LESS,), (THREE,)),), (REACHED,)),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    """Accuracy on the way, and at the end."""
    known = [t for t in result["trials"] if t["arm"] != STILLS]
    names = list(dict.fromkeys(t["arm"] for t in known))
    with sheet(path, 2) as (left, right):
        for name in names:
            mean = np.mean([t["curve"] for t in known if t["arm"] == name], 0)
            left.plot((np.arange(len(mean)) + 1) / len(mean), 100 * mean, "o-", label=name)
        left.axhline(100 * GOAL, color="gray", ls=":")
        left.set(xlabel="share of the steps", ylabel="accuracy, % (mean over seeds)")
        left.legend(fontsize=8)
        dots(right, {"trials": known}, names, (ACCURACY,))
        right.set_xlabel("accuracy at the end, % (bars: 95 % interval)")


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, (ACCURACY, REACHED, FILLED), CLAIMS, draw, read, trial))
