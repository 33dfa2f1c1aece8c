"""Presets that give every pixel a class, by name."""

from dataclasses import replace

from data.sampling.augment import Augment
from data.sampling.packing import Packing
from data.sampling.resolution import Native, NeverEnlarged, Sides
from data.sources.glyph_scenes import GlyphScenes
from data.sources.masks import Masks
from navit_eqx.config import Factorised, Mean, ModelConfig, Rope
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
            packing=Packing(row_tokens=288, row_images=16),
            val_resolution=1.0,
            eval_resolutions=(0.5, 0.75, 1.0, 1.25, 1.5),
        ),
        optim=OptimConfig(rule=Muon(), lr=1e-2, schedule=Cosine(), weight_decay=0.05),
        task=Segment(),
        rows=8,
        steps=1200,
        log_every=100,
    )


def segment() -> Config:
    """Any images with masks, from scratch: `--data.root DIR`. Sizes, row length and steps are chosen from the data."""
    return Config(
        model=ModelConfig(
            (8, 8),
            width=128,
            depth=5,
            heads=4,
            mlp_width=512,
            posembed=Factorised(96),
            rope=Rope(),
            pool=Mean(),
        ),
        data=DataConfig(
            source=Masks(),
            resolution=NeverEnlarged(Sides(most=24)),
            augment=Augment(flip=True, crop=0.4, stretch=0.2, jitter=0.3),
            memory=2,
        ),
        optim=OptimConfig(rule=Muon(), lr=4e-3, schedule=Cosine(), weight_decay=0.1),
        task=Segment(),
        rows=4,
        minutes=20,
    )


def segment_nuclei() -> Config:
    """Nuclei in microscope images of many kinds, 2 classes, from scratch: `--data.root DIR`."""
    base = segment()
    return replace(
        base,
        data=replace(
            base.data,
            source=Masks(classes=("background", "nucleus")),
            resolution=Sides(128, 256),
            augment=Augment(flip=True, crop=0.4, stretch=0.2, jitter=0.4, quarter_turns=True, gray=0.2, invert=0.2),
            packing=Packing(row_tokens=2048, row_images=32),
            val_resolution=256,
            eval_resolutions=(96, 128, 192, 256, 320),
        ),
        rows=2,
    )


def segment_doom() -> Config:
    """Views into mazes with monsters and things, 7 classes, from scratch: `--data.root DIR`."""
    base = segment()
    return replace(
        base,
        data=replace(
            base.data,
            source=Masks(classes=("wall", "floor", "ceiling", "sky", "monster", "item", "thing")),
            resolution=Sides(112, 208),
            augment=Augment(flip=True, crop=0.4, stretch=0.2, jitter=0.3, gray=0.1),
            packing=Packing(row_tokens=704, row_images=12),
            val_resolution=192,
            eval_resolutions=(96, 128, 160, 192, 224),
        ),
    )


SEGMENT = {
    "segment": segment,
    "segment-glyphs": segment_glyphs,
    "segment-nuclei": segment_nuclei,
    "segment-doom": segment_doom,
}
