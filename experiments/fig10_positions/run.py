"""Ten position embeddings, within the resolutions of training and beyond.   [NaViT, fig. 10, table 3]"""

from collections.abc import Mapping
from pathlib import Path

from data.sampling.resolution import Native, Square
from experiments.bed import TRAINED, bed
from experiments.claims import Claim, against_each, each_against
from experiments.pictures import curves, dots
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import sheet
from navit_eqx.config import Factorised, Fourier, Joint, Sinusoidal

RESOLUTIONS = (0.8, 1.0, 1.3, 1.5, 1.7, 2.0)
INSIDE, ABOVE = RESOLUTIONS[:3], RESOLUTIONS[3:]
BEST, TABLE = "factorised, sum", "learned 2-D"
EMBEDDINGS = {
    BEST: Factorised(64),
    "factorised, stack": Factorised(64, combine="stack"),
    "factorised, product": Factorised(64, combine="product"),
    "sinusoidal": Sinusoidal(),
    "Fourier": Fourier(),
    "factorised fractional, sum": Factorised(64, "fractional"),
    "sinusoidal fractional": Sinusoidal(64, "fractional"),
    "Fourier fractional": Fourier(64, "fractional"),
    TABLE: Joint(64, "absolute", "learned"),
    "learned 1-D": Joint(16),
}
VIT = "learned 1-D, one square size"  # the baseline of the paper's figure
OTHERS = [name for name in EMBEDDINGS if name != "learned 1-D"]


def arms(steps: int) -> dict[str, Config]:
    vit = bed(steps, EMBEDDINGS["learned 1-D"], resolution=Square(Native(1.0, 1.0)))
    return {name: bed(steps, embedding) for name, embedding in EMBEDDINGS.items()} | {VIT: vit}


CLAIMS = (
    Claim("The learned 1-D table is the worst, in the mean", 0.01, each_against(OTHERS, "learned 1-D")),
    Claim("So is it where trained on squares of one size", 0.01, each_against(OTHERS, VIT)),
    Claim("The learned 2-D table loses to the factorised sum above the range", 0.01, (((BEST,), (TABLE,)),), ABOVE),
    Claim("Within the range it does not lose a point", -0.01, (((TABLE,), (BEST,)),), INSIDE),
    Claim("The factorised sum is within half a point of every other, in the mean", -0.005, against_each(BEST, OTHERS)),
)


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as (left, right):
        curves(left, result, [BEST, "sinusoidal", "Fourier fractional", TABLE, "learned 1-D", VIT])
        left.axvspan(*TRAINED.spread, color="grey", alpha=0.15, label="trained")
        left.set_title("Accuracy over resolutions (grey: seen in training)")
        dots(right, result)
        right.set_title("Mean over all resolutions")


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, RESOLUTIONS, CLAIMS, draw))
