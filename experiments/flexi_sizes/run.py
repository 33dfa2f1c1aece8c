"""One flexible model against models of one patch size, and both knobs against one.   [FlexiViT, figs. 2, 3]"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from data.sampling.patch_size import PerImage
from data.sampling.resolution import Native
from experiments.claims import Claim
from experiments.flexi_bed import BASE, MIDDLE, SCALES, SIZES, at, fixed, flexible
from experiments.pictures import line, statistics
from experiments.settings import Setting, name
from experiments.trained import Experiment, main
from experiments.trial import source
from harness.config import Config
from harness.cost import image_cost
from harness.evaluation.pictures import COLORS, sheet
from reference.evaluation.cascade import pareto_front

BOTH = "any size, any resolution"
NAVIT = f"{BASE} px, any resolution"
FLEXIVIT = "any size, one resolution"
EVEN = "any size, each as many tokens"
LONG = "any size, three times as long"
FIXED = {size: f"{size} px" for size in SIZES}

WIDE = (0.67, 0.8, *SCALES, 1.67)  # resolutions that give patches of 8 about the tokens that all patch sizes give
KNOBS = {
    BOTH: tuple(Setting(scale, size) for size in SIZES for scale in SCALES),
    NAVIT: tuple(Setting(scale, BASE) for scale in WIDE),
    FLEXIVIT: at(*SIZES),
}
SETTINGS = tuple(dict.fromkeys(setting for settings in KNOBS.values() for setting in settings))
WEIGHTS = (1.0, 1.9, 3.1, 4.6, 9.8)  # one over the mean tokens of a training image, by size
BUDGETS = (1.4, 3.5, 7.0, 13.0)  # MFLOPs an image


def arms(steps: int) -> dict[str, Config]:
    return {
        BOTH: flexible(steps),
        **{name: fixed(steps, size) for size, name in FIXED.items()},
        NAVIT: fixed(steps, BASE, resolution=Native(WIDE[0], WIDE[-1])),
        FLEXIVIT: flexible(steps, resolution=Native(MIDDLE, MIDDLE)),
        EVEN: flexible(steps, patch_sizes=PerImage(weights=WEIGHTS)),
        LONG: flexible(3 * steps),
    }


def best_of(system: str) -> str:
    return f"{system}, within MFLOPs"


CLAIMS = (
    *(
        Claim(f"At {size} pixels the flexible model is at most two points below the one of that size",
              -0.02, (((BOTH,), (name,)),), at(size))
        for size, name in FIXED.items()
    ),
    *(
        Claim(f"Over the other sizes it is ten points above the one of {size} pixels",
              0.10, (((BOTH,), (name,)),), at(*(s for s in SIZES if s != size)))
        for size, name in FIXED.items()
    ),
    *(
        Claim(f"Within {budget:g} MFLOPs both knobs are at most a point below either",
              -0.01, tuple(((best_of(BOTH),), (best_of(alone),)) for alone in (NAVIT, FLEXIVIT)), (budget,))
        for budget in BUDGETS
    ),
)  # fmt: skip


@lru_cache
def mflops(setting: Setting) -> float:
    """Forward, mean over the validation images."""
    config = fixed(1, BASE)
    sizes, patch = source(config, "val").manifest.sizes, setting.patch or config.model.patch
    tokens = config.data.resolution.at(setting.resolution).grids(np.random.default_rng(0), sizes, patch).prod(-1)
    shape = replace(config.model, patch=patch)
    return float(np.mean([image_cost(shape, config.task.classes or 0, int(n)) for n in tokens])) / 1e6


def read(trials: list[dict]) -> list[dict]:
    """The trials, and what each system reaches within the budgets, at the setting that is best for the other seeds."""
    return trials + [within(trial, trials) for trial in trials if trial["arm"] in KNOBS]


def within(trial: dict, trials: list[dict]) -> dict:
    others = [t for t in trials if t["arm"] == trial["arm"] and t["seed"] != trial["seed"]]
    best = {}
    for budget in BUDGETS:
        affordable = [setting for setting in KNOBS[trial["arm"]] if mflops(setting) <= budget]
        chosen = max(affordable, key=lambda setting: sum(t["accuracy"][name(setting)] for t in others))
        best[name(budget)] = trial["accuracy"][name(chosen)]
    return {**trial, "arm": best_of(trial["arm"]), "accuracy": best}


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as (left, right):
        for color, name in zip(COLORS, [BOTH, *FIXED.values()]):
            line(left, SIZES, [statistics(result, name, at(size)) for size in SIZES], name, color=color)
        for style, name in zip((":", "--"), (EVEN, LONG)):
            left.plot(SIZES, [statistics(result, name, at(size))[0] for size in SIZES], f"k{style}", label=name)
        left.set(xlabel="patch size at test time (pixels)", ylabel="accuracy, % (bars: 95 % interval)")
        left.set_title("Trained at one patch size, or at all")
        for color, (system, settings) in zip(COLORS, KNOBS.items()):
            cost = np.array([mflops(setting) for setting in settings])
            mean = np.array([statistics(result, system, (setting,))[0] for setting in settings])
            right.plot(cost, mean, ".", color=color, alpha=0.5)
            front = pareto_front(cost, mean)
            right.plot(cost[front], mean[front], "o-", color=color, label=system)
        right.set(xlabel="MFLOPs per image (mean, forward)", ylabel="accuracy, %", xscale="log")
        right.set_title("Every patch size at every resolution, and the front")
        for axis in (left, right):
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, SETTINGS, CLAIMS, draw, read))
