"""Rows cut into fixed windows against exact fit, at equal images: does accuracy pay for a mask that is known before?"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from data.sampling.dropping import Beta, ByResolution, Constant
from data.sampling.packing import Packing, Template
from data.sources.digits import Digits
from experiments.bed import RESOLUTIONS, bed
from experiments.claims import Claim
from experiments.pictures import curves, dots
from experiments.trained import Experiment, main
from harness.config import Config
from harness.evaluation.pictures import sheet
from navit_eqx.training.config import Muon

LAWS = {"constant": Constant(0.5), "Beta": Beta(0.5, 0.9), "by resolution": ByResolution(0.25, 0.75)}
WINDOWS = {"constant": 11, "Beta": 12, "by resolution": 10}  # of a row: as many as exact fit puts into 96 tokens
EXACT, WINDOWED = (tuple(f"{law}, {rows}" for law in LAWS) for rows in ("exact fit", "template"))
STRIPS = Digits(train_images=30_000, val_images=3_000)  # more of them than in the bed: a point is the margin


def arms(steps: int) -> dict[str, Config]:
    found = {}
    for law, dropping in LAWS.items():
        for name, packing in {
            "exact fit": Packing(row_tokens=96, row_images=48),
            "template": Packing(rule=Template(count=WINDOWS[law])),
        }.items():
            config = bed(steps, dropping=dropping, packing=packing)
            optim = replace(config.optim, rule=Muon(), lr=1e-2)  # of the preset `digits`: seeds differ less
            found[f"{law}, {name}"] = replace(config, optim=optim, data=replace(config.data, source=STRIPS))
    return found


CLAIMS = (
    Claim("Rows of a template are at most a point worse, over three laws of dropping", -0.01, ((WINDOWED, EXACT),)),
    Claim("So they are under each law", -0.01, tuple(((a,), (b,)) for a, b in zip(WINDOWED, EXACT))),
)


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as (left, right):
        dots(left, result)
        left.set_title("Rows of a template and exact fit, equal images")
        curves(right, result)
        right.set_title("Accuracy over resolutions, all tokens kept")


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, RESOLUTIONS, CLAIMS, draw, cost=lambda config: config.total_steps))
