"""Presets that find boxes, by name."""

from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sources.digit_boxes import DigitBoxes
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.tasks.config_detect import Detect, Weights
from navit_eqx.training.config import Cosine, Muon, OptimConfig

from .config import Config, DataConfig


def detect_digits() -> Config:
    """Digits on strips and pages, each with its box; embedded data, minutes on a laptop."""
    return Config(
        model=ModelConfig((8, 8), width=64, depth=3, heads=4, mlp_width=256, posembed=Factorised(40), unroll=3),
        data=DataConfig(
            source=DigitBoxes(),
            resolution=Native(0.7, 1.2),
            packing=Packing(row_tokens=256, row_images=16),
            val_resolution=1.0,
            eval_resolutions=(0.6, 0.8, 1.0, 1.2, 1.4),
        ),
        optim=OptimConfig(rule=Muon(), lr=1e-2, schedule=Cosine(), weight_decay=0.05),
        task=Detect(weights=Weights(1.0, 5.0, 2.0), detections=24),
        rows=6,
        steps=2400,
    )


DETECT = {
    "detect-digits": detect_digits,
}
