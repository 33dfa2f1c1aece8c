"""Presets that train on clips, by name."""

from data.sampling.packing import Packing
from data.sampling.resolution import Clips, Native
from data.sources.moving_digits import MovingDigits
from navit_eqx.config import Factorised, ModelConfig, Tubelets
from navit_eqx.training.config import Cosine, Muon, OptimConfig

from .config import Config, DataConfig

THREE = Tubelets(
    shapes=((2, 8, 8), (1, 8, 8), (4, 16, 16)),
    strides=((2, 8, 8), (8, 8, 8), (4, 16, 16)),
    size=12,
)


def video_digits() -> Config:
    """Direction of a digit that moves among others: clips of any length and size in one row, tubelets of three shapes;
    embedded data, minutes on a laptop."""
    return Config(
        model=ModelConfig(
            (2, 8, 8),
            channels=1,
            width=64,
            depth=3,
            heads=4,
            mlp_width=256,
            posembed=Factorised(8),
            tubelets=THREE,
            unroll=3,
        ),
        data=DataConfig(
            source=MovingDigits(),
            resolution=Clips(Native(0.8, 1.0), frames=(4, 8, 12), stride=1),
            packing=Packing(row_tokens=256, row_images=16),
            val_resolution=1.0,
            eval_resolutions=(0.6, 0.8, 1.0, 1.2),
        ),
        optim=OptimConfig(rule=Muon(), lr=1e-2, schedule=Cosine(), weight_decay=0.05),
        rows=8,
        steps=2000,
    )


VIDEO = {"video-digits": video_digits}
