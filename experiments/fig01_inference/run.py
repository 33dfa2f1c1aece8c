"""The preset of the README's first command, half as long: accuracy and calibration over the cost of inference.

[NaViT, fig. 1 (right), table 4]
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.sources.digits import Digits
from experiments.claims import Claim
from experiments.pictures import line, statistics
from experiments.trained import Experiment, main
from experiments.trial import model_after, source
from harness.config import Config
from harness.digit_presets import digits, digits_vit
from harness.evaluation.pictures import sheet
from harness.evaluation.predictions import context_of
from harness.evaluation.studies.calibration import calibration

NAVIT, VIT = "NaViT", "ViT"
PRESETS = {NAVIT: digits, VIT: digits_vit}
RESOLUTIONS = {name: tuple(map(float, preset().data.eval_resolutions or ())) for name, preset in PRESETS.items()}
INSIDE, BEYOND = RESOLUTIONS[NAVIT][:4], RESOLUTIONS[NAVIT][4]  # of the trained range, and the next one
FEWER = {0.6: 30.0, 0.9: 42.0, 1.2: 54.0}  # resolutions of NaViT, and sides of ViT that give more tokens
STRIPS = 11  # seed of the strips: others than those that the README's numbers are of
ALIKE = 0.02  # calibration errors that far apart count as equal


def arms(steps: int) -> dict[str, Config]:
    """Both presets, on other strips."""
    return {name: other_strips(preset(), 5 * steps) for name, preset in PRESETS.items()}


def other_strips(config: Config, steps: int) -> Config:
    strips = config.data.source
    assert isinstance(strips, Digits)
    return replace(config, steps=steps, data=replace(config.data, source=replace(strips, seed=STRIPS)))


def trial(config: Config, settings: Sequence[str], keep: Path | None = None) -> dict:
    """Train, then see the model at all resolutions of its preset."""
    start = time.perf_counter()
    model, config, task, spent = model_after(config, keep)
    resolutions = tuple(map(float, config.data.eval_resolutions or ()))
    context = context_of(model, config, source(config, "val"), task, resolutions)
    seen = {r: context.predict(context.sampling_at(r)) for r in resolutions}
    found = {f"at {r:g}": float(each.scores.mean()) for r, each in seen.items()}
    kept = {f"calibration at {r:g}": 1 - row["ece"] for r, row in zip(resolutions, calibration(context).rows)}
    tokens = {f"{r:g}": float(each.tokens.mean()) for r, each in seen.items()}
    return {"accuracy": found | kept, **spent, "mean_tokens": tokens, "seconds": time.perf_counter() - start}


def read(trials: list[dict]) -> list[dict]:
    """An arm for each reading, and the best calibration of each model inside the trained range."""
    best = f"calibration at its best, from {INSIDE[0]:g} to {INSIDE[-1]:g}"
    each = [
        t["accuracy"] | {best: max(t["accuracy"][f"calibration at {r:g}"] for r in INSIDE)}
        if t["arm"] == NAVIT
        else t["accuracy"]
        for t in trials
    ]
    return [
        t | {"arm": f"{t['arm']}, {name}", "accuracy": {"": value}}
        for t, values in zip(trials, each)
        for name, value in values.items()
    ]


def at(arm: str, resolution: float) -> tuple[str]:
    return (f"{arm}, at {resolution:g}",)


CLAIMS = (
    Claim("Accuracy rises with the tokens of an image, from each resolution of the trained range to the next", 0.0,
          tuple((at(NAVIT, b), at(NAVIT, a)) for a, b in zip(INSIDE, INSIDE[1:]))),
    Claim(f"At {BEYOND:g}, beyond the trained range, it stays within two points of the largest inside", -0.02,
          ((at(NAVIT, BEYOND), at(NAVIT, INSIDE[-1])),)),
    Claim("With fewer tokens it is better than ViT, at three costs", 0.0,
          tuple((at(NAVIT, r), at(VIT, side)) for r, side in FEWER.items())),
    Claim("Inside the trained range no calibration error is more than two points above the smallest", -ALIKE,
          tuple(((f"{NAVIT}, calibration at {r:g}",),
                 (f"{NAVIT}, calibration at its best, from {INSIDE[0]:g} to {INSIDE[-1]:g}",)) for r in INSIDE)),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    known = {"trials": read(result["trials"])}
    with sheet(path, 2) as (left, right):
        for arm in PRESETS:
            trials = [t for t in result["trials"] if t["arm"] == arm]
            tokens = [float(np.mean([t["mean_tokens"][f"{r:g}"] for t in trials])) for r in RESOLUTIONS[arm]]
            over_tokens(left, tokens, known, [f"{arm}, at {r:g}" for r in RESOLUTIONS[arm]], arm)
            over_tokens(right, tokens, known, [f"{arm}, calibration at {r:g}" for r in RESOLUTIONS[arm]], arm)
        left.set(ylabel="accuracy, % (bars: 95 % interval)", title="One model at every cost")
        right.set(ylabel="1 - calibration error, %", title="Calibration")


def over_tokens(axis: Any, tokens: Sequence[float], result: Mapping, names: Sequence[str], label: str) -> None:
    line(axis, tokens, [statistics(result, name) for name in names], label)
    axis.set(xlabel="tokens of an image (mean)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, ("readings",), CLAIMS, draw, read, trial))
