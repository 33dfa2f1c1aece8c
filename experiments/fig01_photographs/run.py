"""Figure 1 on photographs: the claims of `fig01_compute` where aspect ratios are those of a camera.   [NaViT, fig. 1]

Needs the folder `caltech101` of NAVIT_DATASETS (train/<class>/*, val/<class>/*). Every arm is searched with equal
effort first, judged on a tenth of the training images: `--only search --seeds 1`; what was found is `BEST`.
"""

import os
from dataclasses import replace
from pathlib import Path

from data.sampling.augment import Augment
from data.sampling.packing import Packing
from data.sampling.resolution import Sides, Square, TruncatedNormal
from data.sources.folder import Folder
from experiments.bed import bed
from experiments.compute_bed import OWN, one_a_row, own_trial
from experiments.compute_bed import budget as budget
from experiments.compute_claims import CLAIMS, best_and_searched, draw
from experiments.settings import AnySetting
from experiments.trained import Experiment, main
from harness.config import Config
from navit_eqx.tasks.config import Classify
from navit_eqx.training.config import Muon

PHOTOGRAPHS, SEARCHED = "caltech101", "caltech101/train"  # a flat folder: a tenth of its images is held out
RATES = (0.005, 0.01)
LAWS = {
    "16 to 40": (Sides(16, 40), 40.0),
    "24 to 40": (Sides(24, 40), 40.0),
    "32 to 64": (Sides(32, 64), 64.0),
    "32 to 64, small often": (Sides(32, 64, TruncatedNormal(-0.5)), 64.0),
}
SIDES = {f"side {side}": side for side in (24, 32, 48, 64)}
BEST = {"navit": ("24 to 40", 0.01), "square": ("24 to 40", 0.005), "vit": ("side 24", 0.005)}


def packed(law: Sides | Square, lr: float, at: float, steps: int, root: str) -> Config:
    """A run on packed rows of photographs; `at` is the side at evaluation."""
    views = Augment(flip=True, crop=0.25, stretch=0.33)
    config = bed(steps, resolution=law, val_resolution=at, augment=views, packing=Packing(192, 12))
    return replace(
        config,
        rows=5,
        model=replace(config.model, depth=3),
        data=replace(config.data, source=Folder(), root=root),
        task=Classify(classes=101),
        optim=replace(config.optim, rule=Muon(), lr=lr),
    )


def recipe(kind: str, sizes: str, rate: float, steps: int, root: str = PHOTOGRAPHS) -> Config:
    """One way to feed the model, at named sizes."""
    if kind == "vit":
        return one_a_row(packed(Sides(64, 64), rate, 64.0, steps, root), SIDES[sizes])
    law, at = LAWS[sizes]
    return packed(Square(law) if kind == "square" else law, rate, at, steps, root)


def arms(steps: int) -> dict[str, Config]:
    return best_and_searched(recipe, BEST, SEARCHED, {"navit": LAWS, "square": LAWS, "vit": SIDES}, RATES, steps)


def trial(config: Config, settings: tuple[AnySetting, ...], keep: Path | None = None) -> dict:
    """A trial on the photographs of this machine: the folder that holds them is no part of what a result depends on."""
    root = Path(os.environ["NAVIT_DATASETS"]) / config.data.root
    return own_trial(replace(config, data=replace(config.data, root=str(root))), settings, keep)


if __name__ == "__main__":
    if "NAVIT_DATASETS" in os.environ:
        main(Experiment(Path(__file__).parent, arms, (OWN,), CLAIMS, draw, trial=trial))
    else:
        print("not run: NAVIT_DATASETS names no folder that holds caltech101")
