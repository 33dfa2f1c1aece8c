"""Presets that train on clips, by name."""

from dataclasses import replace

from data.sampling.augment import Augment
from data.sampling.dropping import Beta
from data.sampling.packing import Packing
from data.sampling.resolution import Clips, Native, Sides
from data.sources.clip_folder import ClipFolder
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


def doom() -> Config:
    """Six actions in clips of a game: `python train.py doom --data.root DIR/clips --start runs/video-digits`. Without
    mirroring, which would exchange left and right; gray, as the moving digits from which it starts."""
    base = video_digits()
    return replace(
        base,
        data=replace(
            base.data,
            source=ClipFolder(),
            resolution=Clips(Sides(32, 48), frames=(8, 12), stride=1),
            dropping=Beta(0.3, 0.6),
            augment=Augment(crop=0.6, stretch=0.2, jitter=0.3),
            packing=Packing(row_tokens=384, row_images=8),
            val_resolution=48,
            eval_resolutions=(32, 40, 48),
            workers=1,
        ),
        optim=replace(base.optim, weight_decay=0.2),
        steps=600,
        eval_every=200,
    )


VIDEO = {"video-digits": video_digits, "doom": doom}
