"""The test beds of trained experiments: digit strips small enough for a training of half a minute on one core."""

from dataclasses import replace
from typing import Any

from data.laws import Native, Resolution, Sides
from data.plan import Packing
from data.sources import Digits
from harness.config import Config, DataConfig
from navit_eqx.config import Cosine, Factorised, ModelConfig, OptimConfig, PosEmbed

STEPS = 400
POSITIONS, NEAR = Factorised(64), Native(0.8, 1.3)
LOWEST, HIGHEST = 20, 48  # pixels: 4 to 36 tokens
SIDES = (24.0, 32.0, 40.0, 48.0)  # at which accuracy is measured


def bed(steps: int = STEPS, posembed: PosEmbed = POSITIONS, resolution: Resolution = NEAR) -> Config:
    """Strips about their own size, so that every digit has 4 to 9 tokens; 1,536 token places a step."""
    return Config(
        model=ModelConfig(8, width=48, depth=2, heads=4, mlp_width=192, classes=10, posembed=posembed, unroll=2),
        data=DataConfig(
            source=Digits(train_images=30_000, val_images=1_000),
            resolution=resolution,
            packing=Packing(row_tokens=96, row_images=32),
            memory=1,
        ),
        optim=OptimConfig(lr=4e-3, schedule=Cosine(), weight_decay=0.05),
        rows=16,
        steps=steps,
    )


def varied(steps: int = STEPS, **data: Any) -> Config:
    """Strips of any area, sides 20 to 48 unless `data` says otherwise; 960 token places a step, room for images that
    lose most of their tokens."""
    base = bed(steps, resolution=Sides(LOWEST, HIGHEST))
    return replace(base, rows=10, data=replace(base.data, packing=Packing(row_tokens=96, row_images=48), **data))
