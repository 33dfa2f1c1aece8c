"""Drop rates that fall, stay or rise while training.   [NaViT, fig. 8; eq. 1]"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.sampling.dropping import Constant, Schedule
from experiments.bed import RESOLUTIONS, bed
from experiments.claims import Claim
from experiments.pictures import curves, dots
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import sheet
from harness.lengths import expected_lengths

FIXED = "fixed"
SETTINGS = {"falls fast": (0.5, -0.1), "falls slowly": (2 / 3, -0.2), "rises": (0.5, 0.1)}


def arms(steps: int) -> dict[str, Config]:
    fixed = bed(steps, dropping=Constant(0.5))
    laws = {name: Schedule(Constant(), 0.2, 0.8, images_of(fixed), m, w) for name, (m, w) in SETTINGS.items()}
    return {FIXED: fixed} | {name: bed(steps, dropping=law) for name, law in laws.items()}


def images_of(config: Config) -> float:
    """N: about what the run of the fixed rate sees."""
    kept = expected_lengths(config, config.data.source.open("", "train").manifest).mean()
    return float(np.round(config.total_steps * config.rows * config.data.packing.shape[0] / kept))


FALLING = ("falls fast", "falls slowly")
CLAIMS = (
    Claim("A falling rate is better than a fixed one", 0.005, ((FALLING, (FIXED,)),)),
    Claim("A falling rate is better than a rising one", 0.01, ((FALLING, ("rises",)),)),
    Claim("A rising rate is worse than a fixed one", 0.01, (((FIXED,), ("rises",)),)),
)


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as (left, right):
        dots(left, result)
        left.set_title("Schedule of the drop rate, equal tokens")
        curves(right, result)
        right.set_title("Accuracy over resolutions")


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, RESOLUTIONS, CLAIMS, draw))
