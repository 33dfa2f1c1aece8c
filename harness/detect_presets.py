"""Presets that find boxes, by name."""

from dataclasses import replace

from data.sampling.augment import Augment
from data.sampling.packing import Packing
from data.sampling.resolution import Native, Sides
from data.sources.boxed import Boxed
from data.sources.digit_boxes import DigitBoxes
from navit_eqx.config import Factorised, Mean, ModelConfig, Rope
from navit_eqx.tasks.config_detect import ByText, Detect, Weights
from navit_eqx.training.config import Cosine, Muon, OptimConfig, Parts

from .config import Config, DataConfig
from .process import has_accelerator

LOCKED = ("task.class_head.text", "task.class_head.text_projection")  # what reads texts
WEIGHTS = Weights(1.0, 5.0, 2.0)  # of classes, L1 and GIoU: those of DETR but for the first


def detect_digits() -> Config:
    """Digits on strips and pages, each with its box; embedded data, minutes on a laptop."""
    return Config(
        model=ModelConfig(
            (8, 8), width=64, depth=3, heads=4, mlp_width=256, posembed=Factorised(40), pool=Mean(), unroll=3
        ),
        data=DataConfig(
            source=DigitBoxes(),
            resolution=Native(0.7, 1.2),
            packing=Packing(row_tokens=256, row_images=16),
            val_resolution=1.0,
            eval_resolutions=(0.6, 0.8, 1.0, 1.2, 1.4),
        ),
        optim=OptimConfig(rule=Muon(), lr=1e-2, schedule=Cosine(), weight_decay=0.05),
        task=Detect(weights=WEIGHTS, detections=24),
        rows=6,
        steps=2400,
    )


def detect_digits_texts() -> Config:
    """Digits named by texts, two of them never boxed in training: `--start RUN` of contrast-digits; embedded data."""
    base = detect_digits()
    head = ByText(forms=("a {}",), held_out=("three", "seven"))
    return replace(
        base,
        data=replace(base.data, source=DigitBoxes(words=True)),
        optim=replace(base.optim, lr=4e-2, frozen=Parts(LOCKED)),  # a tenth of that rate from a start
        task=Detect(head, weights=WEIGHTS, detections=24),
    )


def detect() -> Config:
    """Any images with boxes (COCO, YOLO, VOC, parquet): `--data.root DIR`. On an accelerator sizes are chosen from the
    data; on a CPU small ones, for ten minutes."""
    base = Config(
        model=ModelConfig(
            (16, 16), width=128, depth=5, heads=4, mlp_width=512, posembed=Factorised(64), rope=Rope(), pool=Mean()
        ),
        data=DataConfig(source=Boxed(), augment=Augment(flip=True, crop=0.4, stretch=0.2, jitter=0.3), memory=2),
        optim=OptimConfig(rule=Muon(), lr=4e-3, schedule=Cosine(), weight_decay=0.1),
        task=Detect(weights=WEIGHTS),
        rows=8,
    )
    if has_accelerator():
        return base
    return replace(base, data=replace(base.data, resolution=Sides(most=14)), rows=4, minutes=10)


def detect_bccd() -> Config:
    """Blood cells of three kinds on images of one size, from scratch: `--data.root DIR`."""
    base = detect()
    return replace(
        base,
        model=replace(base.model, unroll=5),
        data=replace(
            base.data,
            resolution=Sides(200, 280),
            augment=Augment(flip=True, crop=0.5, stretch=0.2, jitter=0.2, quarter_turns=True),
            packing=Packing(row_tokens=640, row_images=8),
            val_resolution=277,
            eval_resolutions=(160, 200, 240, 277, 320),
        ),
        rows=4,
        minutes=20,
    )


def detect_doom() -> Config:
    """Frames of a game with mostly small boxes, in four screen shapes, from scratch: `--data.root DIR`."""
    base = detect()
    return replace(
        base,
        model=replace(base.model, patch=(8, 8), width=96, depth=4, heads=4, mlp_width=384, unroll=4),
        data=replace(
            base.data,
            resolution=Native(0.6, 1.0),
            augment=Augment(flip=True, crop=0.3, stretch=0.2, jitter=0.3),
            packing=Packing(row_tokens=1280, row_images=12),
            val_resolution=1.0,
            eval_resolutions=(0.6, 0.8, 1.0, 1.25),
        ),
        rows=3,
        steps=3000,
        minutes=None,
    )


DETECT = {
    "detect-digits": detect_digits,
    "detect-digits-texts": detect_digits_texts,
    "detect": detect,
    "detect-bccd": detect_bccd,
    "detect-doom": detect_doom,
}
