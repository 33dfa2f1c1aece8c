"""Fine-tuned coarse, deployed fine: a flexible model gains by the move, a fixed one loses.   [FlexiViT, fig. 8]"""

from collections.abc import Mapping
from pathlib import Path

from data.sampling.patch_size import OneSize
from experiments.claims import Claim
from experiments.flexi_bed import SIZES, at, fixed, flexible
from experiments.pairs import fine_tuned
from experiments.pictures import line, statistics
from experiments.settings import name
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import COLORS, sheet

COARSE, FINE = SIZES[-1], 8
FLEXIBLE, FIXED = "flexible", f"{COARSE} px"
TRAINED = {model: f"{model}, ten digits" for model in (FLEXIBLE, FIXED)}
TUNED = {model: f"{model}, fine-tuned on pairs at {COARSE} px" for model in (FLEXIBLE, FIXED)}
STEPS, RATE = 150, 4e-3  # of fine-tuning: a fifth of the rate of the training before


def arms(steps: int) -> dict[str, Config]:
    before = {FLEXIBLE: flexible(steps), FIXED: fixed(steps, COARSE)}
    return {TRAINED[model]: config for model, config in before.items()} | {
        TUNED[model]: tuned(config, TRAINED[model]) for model, config in before.items()
    }


def tuned(config: Config, start: str) -> Config:
    """Fine-tuned on the other task, all images in coarse patches."""
    return fine_tuned(config, start, STEPS, RATE, patch_sizes=OneSize((COARSE, COARSE)))


def deployed(model: str, size: int) -> str:
    return f"{TUNED[model]}, seen at {size} px"


CLAIMS = (
    Claim(f"The flexible model gains more than a point from {COARSE} to {FINE} pixels",
          0.01, (((deployed(FLEXIBLE, FINE),), (deployed(FLEXIBLE, COARSE),)),)),
    Claim("The fixed one loses more than a point",
          0.01, (((deployed(FIXED, COARSE),), (deployed(FIXED, FINE),)),)),
    Claim(f"At {COARSE} pixels the flexible one is at most a point below the fixed one",
          -0.01, (((deployed(FLEXIBLE, COARSE),), (deployed(FIXED, COARSE),)),)),
)  # fmt: skip


def read(trials: list[dict]) -> list[dict]:
    """The trials, and each fine-tuned model once more for each size at which it is deployed."""
    return trials + [
        {**trial, "arm": deployed(model, size), "accuracy": {"deployed": trial["accuracy"][name(*at(size))]}}
        for model, arm in TUNED.items()
        for size in (COARSE, FINE)
        for trial in trials
        if trial["arm"] == arm
    ]


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as axes:
        for axis, arms_of in zip(axes, (TRAINED, TUNED)):
            for color, (model, arm) in zip(COLORS, arms_of.items()):
                line(axis, SIZES, [statistics(result, arm, at(size)) for size in SIZES], model, color=color)
            axis.set(xlabel="patch size at test time (pixels)", ylabel="accuracy, % (bars: 95 % interval)")
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)
        axes[0].set_title("Before: ten digits")
        axes[1].set_title(f"Fine-tuned on five pairs in patches of {COARSE} px")


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, at(*SIZES), CLAIMS, draw, read))
