"""One flexible model against models of one patch size, and both knobs against one.   [FlexiViT, figs. 2, 3]"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.laws import Native, PerImage
from data.plan import Packing
from experiments.bed import bed
from experiments.claims import Claim
from experiments.pictures import statistics
from experiments.trained import Experiment, main
from experiments.trial import source, training_flops
from experiments.views import View
from harness.config import Config
from harness.pictures import COLOURS, sheet
from navit_eqx.config import Flexi, Sinusoidal
from reference.cascade import pareto_front
from reference.cost import image_flops

SIZES = (4, 6, 8, 10, 12)
SCALES = (0.8, 1.0, 1.3)
VIEWS = tuple(View(scale, size) for size in SIZES for scale in SCALES)
POSITIONS = Sinusoidal(64, "fractional")
BOTH, FLEXIVIT = "any size, any resolution", "any size, one resolution"
FIXED = {size: f"{size} px" for size in SIZES}
NAVIT = FIXED[8]


def arm(steps: int, patch_size: int, **data: Any) -> Config:
    """A run of the test bed with rows for the longest strip in the finest patches.

    Larger patches cost more to embed: with them there are fewer steps, so that all arms spend the same.
    """
    config = bed(1, POSITIONS, packing=Packing(row_tokens=352, row_images=96), **data)
    sized = replace(config, rows=3, model=replace(config.model, patch_size=patch_size))
    usual = replace(sized, model=config.model)
    return replace(sized, steps=round(steps * training_flops(usual) / training_flops(sized)))


def arms(steps: int) -> dict[str, Config]:
    def flexible(config: Config) -> Config:
        return replace(config, model=replace(config.model, flexi=Flexi(SIZES)))

    return {
        BOTH: flexible(arm(steps, 8, patch_sizes=PerImage())),
        **{name: arm(steps, size) for size, name in FIXED.items()},
        FLEXIVIT: flexible(arm(steps, 8, patch_sizes=PerImage(), resolution=Native(1.0, 1.0))),
    }


def at(*sizes: int) -> tuple[View, ...]:
    return tuple(View(1.0, size) for size in sizes)


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
    Claim("Over all sizes and resolutions, both knobs in training are better than the patch size alone",
          0.0, (((BOTH,), (FLEXIVIT,)),)),
)  # fmt: skip


def gflops(view: View) -> float:
    """Forward, mean over the validation images."""
    config = arm(1, 8)
    sizes = source(config.data, "val").manifest.sizes
    tokens = Native(view.resolution, view.resolution).grids(np.random.default_rng(0), sizes, view.patch_size).prod(-1)
    shape = {name: getattr(config.model, name) for name in ("width", "depth", "mlp_width", "classes")}
    return float(np.mean([image_flops(int(n), patch_dim=3 * view.patch_size**2, **shape) for n in tokens])) / 1e9


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as (left, right):
        for colour, name in zip(COLOURS, [BOTH, *FIXED.values()]):
            mean, error = zip(*(statistics(result, name, at(size)) for size in SIZES))
            left.errorbar(SIZES, mean, error, fmt="o-", capsize=2, label=name, color=colour, ms=4)
        left.set(xlabel="patch size at test time (pixels)", ylabel="accuracy, % (bars: one standard error)")
        left.set_title("Trained at one patch size, or at all")
        cost = np.array([gflops(view) for view in VIEWS])
        for colour, name in zip(COLOURS, (BOTH, NAVIT, FLEXIVIT)):
            mean = np.array([statistics(result, name, (view,))[0] for view in VIEWS])
            right.plot(1e3 * cost, mean, ".", color=colour, alpha=0.5)
            best = sorted((1e3 * cost[k], mean[k]) for k in np.flatnonzero(pareto_front(cost, mean)))
            right.plot(*zip(*best), "o-", color=colour, label={NAVIT: f"{NAVIT}, any resolution"}.get(name, name))
        right.set(xlabel="MFLOPs per image (mean, forward)", ylabel="accuracy, %", xscale="log")
        right.set_title("Every patch size at every resolution, and the front")
        for axis in (left, right):
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, VIEWS, CLAIMS, draw))
