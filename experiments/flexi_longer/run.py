"""Three times as long: which patch sizes gain?   [FlexiViT, fig. 2]"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from data.sources.digits import Digits
from experiments.claims import Claim
from experiments.flexi_bed import SIZES, at, flexible
from experiments.pictures import line, statistics
from experiments.settings import name
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import COLORS, sheet

ONCE, LONG = "once", "three times as long"
FINE, COARSE = SIZES[0], SIZES[-1]
STRIPS = 11  # seed of the strips: others than those of flexi_sizes, where this was seen first


def arms(steps: int) -> dict[str, Config]:
    return {ONCE: other_strips(flexible(steps)), LONG: other_strips(flexible(3 * steps))}


def other_strips(config: Config) -> Config:
    source = config.data.source
    assert isinstance(source, Digits)
    return replace(config, data=replace(config.data, source=replace(source, seed=STRIPS)))


def budget(arm: str) -> int:
    """Compute of an arm, in units of the shorter one; a gain spends both."""
    return 1 if arm == ONCE else 3


def gain(size: int) -> str:
    return f"gain at {size} px"


def read(trials: list[dict]) -> list[dict]:
    """The trials, and what each size gains by the longer training, an arm for each."""
    once = {t["seed"]: t for t in trials if t["arm"] == ONCE}
    both = [(once[t["seed"]], t) for t in trials if t["arm"] == LONG and t["seed"] in once]
    return trials + [
        {**long, "arm": gain(size), "accuracy": {"": long["accuracy"][at_size] - short["accuracy"][at_size]}}
        for short, long in both
        for size, at_size in zip(SIZES, map(name, at(*SIZES)))
    ]


CLAIMS = (
    *(Claim(f"{size} px gains by longer training", 0.0, (((LONG,), (ONCE,)),), at(size)) for size in SIZES),
    Claim(f"The coarsest, {COARSE} px, gains at least as much as the finest, {FINE} px", 0.0,
          (((gain(COARSE),), (gain(FINE),)),)),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 1) as (axis,):
        for color, arm in zip(COLORS, (ONCE, LONG)):
            line(axis, SIZES, [statistics(result, arm, at(size)) for size in SIZES], arm, color=color)
        axis.set(xlabel="patch size at test time (pixels)", ylabel="accuracy, % (bars: 95 % interval)")
        axis.grid(alpha=0.3)
        axis.legend()


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, at(*SIZES), CLAIMS, draw, read))
