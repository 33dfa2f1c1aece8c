"""The sizes of the stored kernel and of the position table: do they matter?   [FlexiViT, fig. 17]"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path

from experiments.claims import Claim
from experiments.flexi_bed import BASE, SIZES, at, flexible
from experiments.pictures import dots
from experiments.trained import Experiment, main
from experiments.trial import training_flops
from harness.config import Config
from harness.evaluation.pictures import sheet
from navit_eqx.config import Joint

KERNELS = {f"kernel of {side} px": side for side in (BASE, 16, 32)}
TABLES = {f"table of {side} x {side}": side for side in (4, 7, 14)}


def arms(steps: int) -> dict[str, Config]:
    """One flexible model each; every kernel serves the same patch sizes, every table the same grids."""
    base = flexible(steps)
    stored = {name: replace(base.model, patch=(side, side)) for name, side in KERNELS.items()}
    tables = {name: replace(base.model, posembed=Joint(side)) for name, side in TABLES.items()}
    return {name: replace(base, model=model) for name, model in (stored | tables).items()}


def budget(arm: str) -> float:
    """Compute of an arm, in units of the first: patches of all sizes are mapped to that of the stored kernel, so that a
    larger one costs more. What is equal here are steps and images."""
    return training_flops(arms(1)[arm]) / training_flops(flexible(1))


def alike(names: Mapping[str, int]) -> tuple:
    """Each one against each other one, both ways."""
    return tuple(((first,), (second,)) for first, second in permutations(names, 2))


CLAIMS = (
    Claim("Stored kernels of 8, 16 and 32 pixels: no two are further apart than two points", -0.02, alike(KERNELS)),
    Claim("Tables of 4, 7 and 14 entries a side: no two are further apart than two points", -0.02, alike(TABLES)),
)


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 1) as (axis,):
        dots(axis, result)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, at(*SIZES), CLAIMS, draw, cost=lambda config: config.total_steps))
