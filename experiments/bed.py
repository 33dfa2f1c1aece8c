"""The test bed that all trained experiments share: digit strips small enough for a training of seconds on one core."""

from typing import Any

from data.laws import Sides
from data.plan import Packing
from data.sources import Digits
from harness.config import Config, DataConfig
from navit_eqx.config import Cosine, Factorised, ModelConfig, OptimConfig, PosEmbed

STEPS = 400
POSITIONS = Factorised(64)
LOWEST, HIGHEST = 24, 60  # pixels: 9 to 49 tokens
VARIED = Sides(LOWEST, HIGHEST)
SIDES = (24.0, 36.0, 48.0, 60.0)  # at which accuracy is measured


def bed(steps: int = STEPS, posembed: PosEmbed = POSITIONS, **data: Any) -> Config:
    """A run of so many steps of 1,536 token places; `data` are fields of `DataConfig`."""
    return Config(
        model=ModelConfig(8, width=48, depth=2, heads=4, mlp_width=192, classes=10, posembed=posembed, unroll=2),
        data=DataConfig(
            source=Digits(train_images=30_000, val_images=1_000),
            packing=Packing(row_tokens=96, row_images=32),
            memory=1,
            **data,
        ),
        optim=OptimConfig(lr=4e-3, schedule=Cosine(), weight_decay=0.05),
        rows=16,
        steps=steps,
    )
