"""Inputs of benchmarks: sizes of photographs, and presets on images of noise."""

from dataclasses import replace

import numpy as np

from data.sources.digits import Digits
from data.sources.source import Arrays, Source
from harness.config import Config
from harness.presets import digits, imagenet_s16
from navit_eqx.config import ti

SHAPES = np.array([(3, 4), (4, 3), (1, 1), (2, 3), (3, 2), (9, 16), (16, 9)], np.int32)  # height, width
CLASSES = 1_000
SEED = 0


def photo_sizes(count: int, scale: int = 100) -> np.ndarray:
    """Heights and widths of `count` images with random shapes of SHAPES."""
    return scale * SHAPES[np.random.default_rng(SEED).integers(len(SHAPES), size=count)]


def preset_on_noise(name: str, rows: int) -> tuple[Config, Source]:
    """Preset `digits`, or `imagenet-s16` with the model Ti/16 or S/16, and enough images for one batch."""
    config = digits() if name == "digits" else imagenet_s16()
    shape = ti() if name == "ti16" else config.model
    classes = 10 if name == "digits" else CLASSES
    count = rows * config.data.packing.row_images
    strips = lambda: Digits(train_images=count).open("", "train").manifest.sizes
    sizes = strips() if name == "digits" else photo_sizes(count, scale=40)
    rng = np.random.default_rng(SEED)
    noise = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes.tolist()]
    source = Arrays(noise, rng.integers(0, classes, count), tuple(map(str, range(classes))))
    return replace(config, rows=rows, model=replace(shape, classes=classes)), source
