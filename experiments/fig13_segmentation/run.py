"""Masks at native aspect ratio, or from squares?   [NaViT, fig. 13]"""

from functools import partial
from pathlib import Path

from experiments import dense_bed
from experiments.dense_bed import RESOLUTIONS, claims, draw, read, trial
from experiments.trained import Experiment, main
from harness.config import Config
from harness.segment_presets import segment_glyphs

METRIC = "mIoU"


def arms(steps: int) -> dict[str, Config]:
    """Half the steps of the preset."""
    return dense_bed.arms(segment_glyphs(), 2 * steps)


CLAIMS = claims(METRIC, 0.0)

if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, RESOLUTIONS, CLAIMS, partial(draw, metric=METRIC), read, trial))
