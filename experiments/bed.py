"""The test bed of all trained experiments: digit strips small enough for a training of a quarter minute on one core."""

from typing import Any

from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sources.digits import Digits
from harness.config import Config, DataConfig
from navit_eqx.config import Factorised, ModelConfig, PosEmbed
from navit_eqx.tasks.config import Classify
from navit_eqx.training.config import Cosine, OptimConfig

STEPS = 300
TRAINED = Native(0.8, 1.3)  # 4 to 9 tokens a digit
RESOLUTIONS = (0.8, 1.0, 1.3)  # at which accuracy is measured
POSITIONS = Factorised(64)


def bed(steps: int = STEPS, posembed: PosEmbed = POSITIONS, **data: Any) -> Config:
    """A run of so many steps of 960 token places; `data` are fields of `DataConfig`."""
    choices = {"resolution": TRAINED, "packing": Packing(row_tokens=96, row_images=48)} | data
    return Config(
        model=ModelConfig((8, 8), width=48, depth=2, heads=4, mlp_width=192, posembed=posembed, unroll=2),
        data=DataConfig(
            source=Digits(train_images=30_000, val_images=800),
            memory=1,
            **choices,
        ),
        task=Classify(classes=10),
        optim=OptimConfig(lr=5e-3, schedule=Cosine(), weight_decay=0.05),
        rows=10,
        steps=steps,
    )
