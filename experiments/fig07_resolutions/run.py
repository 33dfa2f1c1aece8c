"""Resolution drawn by side or by area, with four distributions.   [NaViT, fig. 7]"""

from collections.abc import Mapping
from pathlib import Path

from data.sampling.resolution import Areas, Sides, TruncatedNormal, Uniform
from experiments.bed import bed
from experiments.claims import Claim
from experiments.pictures import curves, dots
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import sheet

LOWEST, HIGHEST = 16, 40  # pixels: 4 to 25 tokens
RESOLUTIONS = (20.0, 30.0, 40.0)
DRAWS = {
    "uniform": Uniform(),
    "low": TruncatedNormal(-0.5),
    "middle": TruncatedNormal(0.0),
    "high": TruncatedNormal(0.5),
}
KINDS = {"side": Sides, "area": Areas}
SIDE, AREA = (tuple(f"{kind}, {draw}" for draw in DRAWS) for kind in KINDS)


def arms(steps: int) -> dict[str, Config]:
    laws = {f"{k}, {d}": kind(LOWEST, HIGHEST, draw) for k, kind in KINDS.items() for d, draw in DRAWS.items()}
    return {name: bed(steps, resolution=law) for name, law in laws.items()}


CLAIMS = (
    Claim("By side is better than by area, over the four distributions", 0.005, ((SIDE, AREA),)),
    Claim("By side is no more than half a point worse", -0.005, ((SIDE, AREA),)),
    Claim("Of the sides, the law that prefers small images is best", 0.0,
          tuple((("side, low",), (other,)) for other in SIDE if other != "side, low")),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as (left, right):
        dots(left, result)
        left.set_title("How the resolution is drawn in training")
        curves(right, result, ["side, low", "side, uniform", "area, uniform", "area, high"])
        right.set_title("Accuracy over resolutions")


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, RESOLUTIONS, CLAIMS, draw))
