"""Presets that give every pixel a class, by name."""

from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sources.glyph_scenes import GlyphScenes
from navit_eqx.config import Factorised, ModelConfig, Rope
from navit_eqx.tasks.config import Segment
from navit_eqx.training.config import Cosine, Muon, OptimConfig

from .config import Config, DataConfig


def segment_glyphs() -> Config:
    """Scenes of shapes, a class for every pixel; embedded data, minutes on a laptop."""
    return Config(
        model=ModelConfig(
            (8, 8), width=96, depth=4, heads=4, mlp_width=384, posembed=Factorised(40), rope=Rope(), unroll=4
        ),
        data=DataConfig(
            source=GlyphScenes(),
            resolution=Native(0.7, 1.3),
            packing=Packing(row_tokens=256, row_images=16),
            val_resolution=1.0,
            eval_resolutions=(0.5, 0.75, 1.0, 1.25, 1.5),
        ),
        optim=OptimConfig(rule=Muon(), lr=1e-2, schedule=Cosine(), weight_decay=0.05),
        task=Segment(),
        rows=8,
        steps=1500,
        log_every=100,
    )


SEGMENT = {
    "segment-glyphs": segment_glyphs,
}
