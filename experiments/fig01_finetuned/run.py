"""Fine-tuned after equal compute, and seen by images instead of compute.   [NaViT, fig. 1 (middle), app. A]"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.claims import Claim
from experiments.compute_bed import OWN, own_trial
from experiments.fig01_compute.run import BEST, recipe
from experiments.pairs import fine_tuned
from experiments.pictures import line, statistics
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import sheet

BUDGETS = (1, 2, 4)  # times the smallest of fig01_compute
KINDS = ("navit", "vit")
STRIPS = 3  # seed of the strips: others than those of fig01_compute, whose results are known
STEPS = 100  # of fine-tuning; the rate is a fifth


def trained(kind: str, times: int) -> str:
    return f"{kind}, {times}x"


def tuned(kind: str, times: int) -> str:
    return f"{kind}, {times}x, fine-tuned"


def arms(steps: int) -> dict[str, Config]:
    """The best recipe of each kind at each budget, and each fine-tuned on pairs as it was trained."""
    each = [(kind, times) for times in BUDGETS for kind in KINDS]
    before = {trained(*one): recipe(one[0], *BEST[one[0]], one[1] * steps, STRIPS) for one in each}
    return before | {
        tuned(*one): fine_tuned(before[trained(*one)], trained(*one), STEPS, BEST[one[0]][1] / 5) for one in each
    }


def budget(arm: str) -> float:
    """Compute of an arm, in units of the smallest; that of every fine-tuning is the same."""
    return 1 / 3 if arm.endswith("fine-tuned") else int(arm.split(", ")[1][:-1])


CLAIMS = (
    Claim("NaViT is better than ViT after fine-tuning, at every budget of the training before", 0.0,
          tuple(((tuned("navit", b),), (tuned("vit", b),)) for b in BUDGETS)),
    Claim("NaViT is better than ViT before it, too", 0.0,
          tuple(((trained("navit", b),), (trained("vit", b),)) for b in BUDGETS)),
    Claim("By images seen ViT is at most a point worse: it sees a third more in half the compute", -0.01,
          tuple(((trained("vit", b),), (trained("navit", 2 * b),)) for b in BUDGETS[:-1])),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as (left, right):
        for kind in KINDS:
            for axis, what in ((left, "flops"), (right, "images")):
                names = [trained(kind, b) for b in BUDGETS]
                x = [np.mean([t[what] for t in result["trials"] if t["arm"] == name]) for name in names]
                for label, arm_of in ((kind, trained), (f"{kind}, fine-tuned on pairs", tuned)):
                    line(axis, x, [statistics(result, arm_of(kind, b)) for b in BUDGETS], label)
        left.set(xscale="log", xlabel="compute of the training before, FLOPs", title="By compute")
        right.set(xscale="log", xlabel="images seen in the training before", title="By images")
        for axis in (left, right):
            axis.set(ylabel="accuracy, % (bars: 95 % interval)")
            axis.grid(alpha=0.3)
        left.legend(fontsize=8)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, (OWN,), CLAIMS, draw, trial=own_trial))
