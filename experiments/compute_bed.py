"""The test bed of compute to accuracy: digit strips, three ways to feed them, steps of equal cost.

`navit` packs strips at their own aspect ratio and at sizes drawn from a law, `square` packs them squashed to squares of
the same areas, `vit` takes squares of one size, one image a row. Model, optimizer and schedule are the same; every step
of every arm costs as many FLOPs, so an arm with cheaper images sees more of them.
"""

from dataclasses import replace
from pathlib import Path

from data.sampling.packing import Packing
from data.sampling.resolution import Native, OneSquare, Square
from data.sources.digits import Digits
from experiments.bed import bed
from experiments.settings import AnySetting, name
from experiments.trial import training_flops, trial
from harness.config import Config
from navit_eqx.training.config import Muon

OWN = "its own"  # the one setting: the resolution that an arm names, `data.val_resolution`


def feed(law: Native | Square, lr: float, at: float, steps: int, strips: int = 0) -> Config:
    """A run on packed rows; `at` is the resolution of evaluation, `strips` the seed of the images."""
    config = bed(steps, resolution=law, val_resolution=at)
    data = replace(config.data, source=Digits(300_000, 2_000, seed=strips))
    return replace(config, data=data, optim=replace(config.optim, rule=Muon(), lr=lr))


def vit(side: int, lr: float, steps: int, strips: int = 0) -> Config:
    """The same run on squares of one size."""
    return one_a_row(feed(Native(), lr, 1.0, steps, strips), side)


def one_a_row(packed: Config, side: int) -> Config:
    """The same run on squares of one size, one a row, as many as the compute of a packed step pays for."""
    tokens = (side // packed.model.patch[0]) ** 2
    data = replace(
        packed.data, resolution=OneSquare(side), packing=Packing(row_tokens=tokens, row_images=1), val_resolution=side
    )
    single = replace(packed, data=data, rows=1)
    return replace(single, rows=round(training_flops(packed) / training_flops(single)))


def own_trial(config: Config, settings: tuple[AnySetting, ...], keep: Path | None = None) -> dict:
    """A trial that is judged at the resolution of its arm."""
    assert settings == (OWN,) and isinstance(config.data.val_resolution, float | int)
    found = trial(config, [float(config.data.val_resolution)], keep)
    return found | {"accuracy": {name(OWN): next(iter(found["accuracy"].values()))}}


def budget(arm: str) -> int | None:
    """Compute of an arm such as "vit, 4x" or "vit, 4x: square", in units of the smallest budget; None for one of the
    search."""
    return None if arm.startswith("search") else int(arm.partition("x")[0].split()[-1])
