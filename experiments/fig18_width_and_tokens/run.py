"""More tokens or a wider model? One law of training, several widths, read at many resolutions.

[NaViT, figs. 1 (right), 18]
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from experiments.claims import Claim
from experiments.pictures import line, statistics
from experiments.settings import name
from experiments.trained import Experiment, main
from experiments.trial import source
from harness.config import Config
from harness.cost import image_cost
from harness.evaluation.pictures import sheet
from harness.presets import PRESETS
from navit_eqx.tasks.config import Classify
from navit_eqx.training.config import Cosine

WIDTHS = (32, 64, 96)
NARROW, MIDDLE, WIDE = (f"width {width}" for width in WIDTHS)
INSIDE = (0.6, 0.75, 0.95, 1.2, 1.5)  # of the trained range, a factor of 1.26 from one to the next
BEYOND = 1.8
READ = (*INSIDE, BEYOND)
PAIRS = ((NARROW, MIDDLE), (MIDDLE, WIDE))


def arms(steps: int) -> dict[str, Config]:
    """The preset `digits` in fewer steps, at three widths."""
    base = replace(PRESETS["digits"](), steps=steps)
    data = replace(base.data, memory=1, source=replace(base.data.source, val_images=2_000), eval_resolutions=())
    model = lambda width: replace(base.model, width=width, mlp_width=4 * width)
    task = Classify(classes=10)
    return {
        f"width {width}": replace(
            base, model=model(width), data=data, task=task, optim=replace(base.optim, schedule=Cosine())
        )
        for width in WIDTHS
    }


@lru_cache
def mflops(arm: str, resolution: float) -> float:
    """Forward, mean over the validation images."""
    config = arms(1)[arm]
    sizes = source(config, "val").manifest.sizes
    tokens = config.data.resolution.at(resolution).grids(np.random.default_rng(0), sizes, config.model.patch).prod(-1)
    return float(np.mean([image_cost(config.model, 10, int(n)) for n in tokens])) / 1e6


def equal_cost(arm: str) -> str:
    return f"{arm}, at the cost of a narrower one"


def read(trials: list[dict]) -> list[dict]:
    """The trials, and each wider model at the costs of the narrower one's resolutions, linear in log cost between its
    own; costs that only one of the two has are left out."""
    found = list(trials)
    for narrow, wide in PAIRS:
        costs = np.log([mflops(wide, r) for r in INSIDE])
        shared = {r: np.log(mflops(narrow, r)) for r in INSIDE}
        shared = {r: cost for r, cost in shared.items() if costs[0] <= cost <= costs[-1]}
        for t in trials:
            if t["arm"] == wide:
                own = [t["accuracy"][name(r)] for r in INSIDE]
                at = {name(r): float(np.interp(cost, costs, own)) for r, cost in shared.items()}
                found.append({**t, "arm": equal_cost(wide), "accuracy": at})
            elif t["arm"] == narrow:
                found.append({**t, "arm": f"{narrow}, where {wide} costs as much", "accuracy": {
                    name(r): t["accuracy"][name(r)] for r in shared
                }})  # fmt: skip
    return found


def steps_of(arm: str) -> tuple:
    """One resolution against the one before, as arms."""
    return tuple(((f"{arm} at {b:g}",), (f"{arm} at {a:g}",)) for a, b in zip(INSIDE, INSIDE[1:]))


CLAIMS = (
    *(
        Claim(f"At equal cost {wide} with fewer tokens is better than {narrow} with more", 0.0,
              (((equal_cost(wide),), (f"{narrow}, where {wide} costs as much",)),))
        for narrow, wide in PAIRS
    ),
    Claim("Accuracy rises with the tokens of an image, from each resolution to the next", 0.0, steps_of(MIDDLE)),
    Claim("Beyond the trained range it stays within two points", -0.02,
          (((f"{MIDDLE} at {BEYOND:g}",), (f"{MIDDLE} at {INSIDE[-1]:g}",)),)),
)  # fmt: skip


def with_resolutions(trials: list[dict]) -> list[dict]:
    """Also an arm for each resolution of the middle width."""
    each = [{**t, "arm": f"{MIDDLE} at {r:g}", "accuracy": {"": t["accuracy"][name(r)]}}
            for t in trials if t["arm"] == MIDDLE for r in READ]  # fmt: skip
    return read(trials) + each


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 1) as (axis,):
        for arm in (NARROW, MIDDLE, WIDE):
            line(axis, [mflops(arm, r) for r in READ], [statistics(result, arm, (r,)) for r in READ], arm)
        axis.set(xscale="log", xlabel="MFLOPs an image (mean, forward)", ylabel="accuracy, % (bars: 95 % interval)")
        axis.set_title(f"Scales {', '.join(f'{r:g}' for r in READ)}; trained on 0.6 to 1.65")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, READ, CLAIMS, draw, with_resolutions))
