"""The test bed of experiments on patch sizes: rows for strips in fine patches, an optimizer that needs few."""

from dataclasses import replace
from typing import Any

from data.sampling.packing import Packing
from data.sampling.patch_size import PerImage
from data.sampling.resolution import Native
from experiments.bed import bed
from experiments.settings import Setting
from experiments.trial import training_flops
from harness.config import Config
from navit_eqx.config import Flexi, Sinusoidal
from navit_eqx.training.config import Muon

SIZES = (6, 8, 10, 12, 15)
BASE = 8
SCALES = (1.0, 1.25, 1.5)
MIDDLE = SCALES[1]
POSITIONS = Sinusoidal(64, "fractional")


def fixed(steps: int, patch_size: int, **data: Any) -> Config:
    """A run at one patch size, at the cost of so many steps at the base size.

    Larger patches cost more to embed: with them there are fewer steps, so that all arms spend the same.
    """
    choices = {"resolution": Native(SCALES[0], SCALES[-1]), "packing": Packing(row_tokens=208, row_images=96)} | data
    usual = bed(1, POSITIONS, **choices)
    usual = replace(usual, rows=5, optim=replace(usual.optim, rule=Muon(), lr=2e-2))
    sized = replace(usual, model=replace(usual.model, patch=(patch_size, patch_size)))
    return replace(sized, steps=round(steps * training_flops(usual) / training_flops(sized)))


def flexible(steps: int, **data: Any) -> Config:
    """A run at all sizes, mixed in packed rows."""
    config = fixed(steps, BASE, **{"patch_sizes": PerImage()} | data)
    return replace(config, model=replace(config.model, flexi=Flexi(SIZES)))


def at(*sizes: int) -> tuple[Setting, ...]:
    """The middle resolution, in patches of these sizes."""
    return tuple(Setting(MIDDLE, size) for size in sizes)
