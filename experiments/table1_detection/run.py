"""Boxes at native aspect ratio, or from squares?   [NaViT, table 1]"""

from functools import partial
from pathlib import Path

from experiments import dense_bed
from experiments.dense_bed import RESOLUTIONS, claims, draw, read, trial
from experiments.trained import Experiment, main
from harness.config import Config
from harness.detect_presets import detect_digits

METRIC = "AP"


def arms(steps: int) -> dict[str, Config]:
    """Half the steps of the preset."""
    return dense_bed.arms(detect_digits(), 4 * steps)


CLAIMS = claims(METRIC, 0.02)

if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, RESOLUTIONS, CLAIMS, partial(draw, metric=METRIC), read, trial))
