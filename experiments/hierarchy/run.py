"""Fine patches that merge within the network, against fine or coarse patches in all blocks, at equal compute.

[Hiera, arXiv:2306.00989; Swin, arXiv:2103.14030]
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.sampling.packing import Packing
from data.sources.digits import Digits
from experiments.bed import bed
from experiments.claims import Claim, each_against
from experiments.pictures import curves, dots
from experiments.trained import Experiment, main
from experiments.trial import training_flops
from harness.config import Config
from harness.evaluation.pictures import sheet
from navit_eqx.config import Stages
from navit_eqx.training.config import Muon

FINE, COARSE = 4, 8  # pixels: sides of patches; a quad of the fine ones covers a coarse one
ROWS = {FINE: 320, COARSE: 80}  # tokens of a row, of the same images; the longest strip has 312 fine ones
IMAGES = 40  # slots of a row
RESOLUTIONS = (0.8, 1.0, 1.3)


def arm(steps: int, patch: int, rows: int, **model: Any) -> Config:
    """A run on strips of large and small digits, by the optimizer and rate that figure 1 found for NaViT."""
    config = bed(steps, packing=Packing(row_tokens=ROWS[patch], row_images=IMAGES))
    source = Digits(30_000, 2_000, smallest=6.0) if steps > 20 else Digits(400, 40, smallest=6.0)
    config = replace(config, data=replace(config.data, source=source), rows=rows)
    config = replace(config, optim=replace(config.optim, rule=Muon(), lr=0.01))
    return replace(config, model=replace(config.model, patch=(patch, patch), unroll=1, **model))


def arms(steps: int) -> dict[str, Config]:
    """All spend the compute of `coarse`: rows of a step to the nearest number, then steps; and equal blocks at the
    coarse level in `coarse` and in the hierarchies, which have one more at the fine level."""
    stages = {"depth": 4, "stages": Stages((1, 3))}
    models = {
        "coarse": (COARSE, {"depth": 3}),
        "coarse, deeper": (COARSE, {"depth": 4}),
        "fine": (FINE, {"depth": 3}),
        "mean": (FINE, stages),
        "max": (FINE, stages | {"stages": Stages((1, 3), pool="max")}),
        "concat": (FINE, stages | {"stages": Stages((1, 3), pool="concat")}),
        "wider": (FINE, stages | {"width": 32, "mlp_width": 128, "stages": Stages((1, 3), (32, 48))}),
    }
    budget = training_flops(arm(steps, COARSE, 12, depth=3))
    found = {}
    for name, (patch, model) in models.items():
        row = training_flops(arm(steps, patch, 1, **model))
        rows = max(1, round(budget / row))
        found[name] = arm(max(1, round(steps * budget / (rows * row))), patch, rows, **model)
    return found


CLAIMS = (
    Claim("Merging fine patches, in the mean, is two points above coarse patches, of as many blocks or one fewer",
          0.02, each_against(("mean",), "coarse") + each_against(("mean",), "coarse, deeper")),
    Claim("It is two points above fine patches in all blocks", 0.02, each_against(("mean",), "fine")),
    Claim("The mean is at most a point below the maximum and below the linear map of all four",
          -0.01, ((("mean",), ("max",)), (("mean",), ("concat",)))),
    Claim("A width that grows from stage to stage is at most a point below one width",
          -0.01, each_against(("wider",), "mean")),
    Claim("At the smallest size fine patches, merged, gain five points on coarse ones",
          0.05, each_against(("mean",), "coarse"), at=(RESOLUTIONS[0],)),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as (left, right):
        dots(left, result)
        left.set_title("Accuracy at equal compute")
        curves(right, result, ["coarse", "fine", "mean", "wider"])
        right.set_title("Accuracy over resolutions")


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, RESOLUTIONS, CLAIMS, draw))
