"""Fine-tuned at two patch sizes: the flexible model against the model of each size.   [FlexiViT, fig. 7]"""

from collections.abc import Mapping
from pathlib import Path

from data.sampling.patch_size import OneSize
from experiments.claims import Claim
from experiments.flexi_bed import at, fixed, flexible
from experiments.pairs import fine_tuned
from experiments.pictures import line, statistics
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import COLORS, sheet

TWO = (8, 12)  # sizes of fine-tuning, one of them at which fine patches were learned and one at which coarse ones were
FLEXIBLE = "flexible"
FIXED = {size: f"{size} px" for size in TWO}
STEPS, RATE = 150, 4e-3  # as in flexi_coarse_to_fine


def tuned(model: str, size: int) -> str:
    return f"{model}, fine-tuned at {size} px"


def arms(steps: int) -> dict[str, Config]:
    before = {FLEXIBLE: flexible(steps), **{name: fixed(steps, size) for size, name in FIXED.items()}}
    after = {
        tuned(name, size): fine_tuned(config, name, STEPS, RATE, patch_sizes=OneSize((size, size)))
        for size in TWO
        for name, config in before.items()
        if name in (FLEXIBLE, FIXED[size])
    }
    return before | after


CLAIMS = tuple(
    Claim(f"Fine-tuned and seen at {size} px, the flexible model is at most a point below that of this size",
          -0.01, (((tuned(FLEXIBLE, size),), (tuned(FIXED[size], size),)),), at(size))
    for size in TWO
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as axes:
        for axis, size in zip(axes, TWO):
            for color, model in zip(COLORS, (FLEXIBLE, FIXED[size])):
                line(axis, TWO, [statistics(result, tuned(model, size), at(seen)) for seen in TWO], model, color=color)
            axis.set(xlabel="patch size at test time (pixels)", ylabel="accuracy on pairs, % (bars: 95 % interval)")
            axis.set_title(f"Fine-tuned at {size} pixels")
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, at(*TWO), CLAIMS, draw))
