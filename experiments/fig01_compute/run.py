"""Accuracy for compute: packed images at their own aspect ratio, squares, a plain ViT.   [NaViT, fig. 1]

Every arm is searched with equal effort first, on other strips: `--only search --seeds 2`; what was found is `BEST`.
"""

from pathlib import Path

from data.sampling.resolution import Native, Square, TruncatedNormal
from experiments.compute_bed import OWN, feed, own_trial, vit
from experiments.compute_bed import budget as budget
from experiments.compute_claims import CLAIMS, best_and_searched, draw
from experiments.trained import Experiment, main
from harness.config import Config

SEARCHED = 7  # seed of the strips of the search; those of the arms are others
RATES = (0.01, 0.02)
LAWS = {
    "0.8 to 1.3": (Native(0.8, 1.3), 1.0),
    "0.8 to 1.6": (Native(0.8, 1.6), 1.2),
    "0.4 to 1.3, small often": (Native(0.4, 1.3, TruncatedNormal(-0.5)), 1.0),
}
SIDES = {f"side {side}": side for side in (24, 32, 40, 48)}
BEST = {"navit": ("0.8 to 1.3", 0.01), "square": ("0.4 to 1.3, small often", 0.01), "vit": ("side 24", 0.02)}


def recipe(kind: str, sizes: str, rate: float, steps: int, strips: int = 0) -> Config:
    """One way to feed the model, at named sizes."""
    if kind == "vit":
        return vit(SIDES[sizes], rate, steps, strips)
    law, at = LAWS[sizes]
    return feed(Square(law) if kind == "square" else law, rate, at, steps, strips)


def arms(steps: int) -> dict[str, Config]:
    return best_and_searched(recipe, BEST, SEARCHED, {"navit": LAWS, "square": LAWS, "vit": SIDES}, RATES, steps)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, (OWN,), CLAIMS, draw, trial=own_trial))
