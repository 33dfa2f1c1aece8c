"""Coarse patches early, fine ones late, for a model that is used in fine ones.   [FlexiViT, pre-training faster]"""

from collections.abc import Mapping
from pathlib import Path

from data.sampling.patch_size import CoarseToFine
from experiments.claims import Claim, against_each
from experiments.flexi_bed import SIZES, at, flexible
from experiments.flexi_sizes.run import BOTH, FIXED, SETTINGS
from experiments.flexi_sizes.run import arms as arms_of_sizes
from experiments.pictures import line, statistics
from experiments.settings import name
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import COLORS, sheet

FINE = SIZES[0]
ALONE, RANDOM, CURRICULUM = FIXED[FINE], BOTH, "coarse to fine"


def arms(steps: int) -> dict[str, Config]:
    """The curriculum, and two arms of flexi_sizes, evaluated as there: their trainings are shared."""
    shared = arms_of_sizes(steps)
    return {ALONE: shared[ALONE], RANDOM: shared[RANDOM], CURRICULUM: flexible(steps, patch_sizes=CoarseToFine())}


def read(trials: list[dict]) -> list[dict]:
    """The trials at the middle resolution alone."""
    names = [name(setting) for setting in at(*SIZES)]
    return [{**trial, "accuracy": {key: trial["accuracy"][key] for key in names}} for trial in trials]


CLAIMS = (
    Claim(
        f"In {FINE} pixels coarse to fine is a point above {FINE} pixels alone",
        0.01, against_each(CURRICULUM, [ALONE]), at(FINE),
    ),
    Claim(
        f"In {FINE} pixels it is a point above sizes in random order",
        0.01, against_each(CURRICULUM, [RANDOM]), at(FINE),
    ),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 1) as (axis,):
        for color, arm in zip(COLORS, (CURRICULUM, RANDOM, ALONE)):
            line(axis, SIZES, [statistics(result, arm, at(size)) for size in SIZES], arm, color=color)
        axis.set(xlabel="patch size at test time (pixels)", ylabel="accuracy, % (bars: 95 % interval)")
        axis.set_title(f"Ways to a model for patches of {FINE} px, at equal FLOPs in training")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, SETTINGS, CLAIMS, draw, read))
