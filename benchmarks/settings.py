"""Inputs of benchmarks: sizes of photographs, presets on images of noise, images packed into planned rows."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from data.sources.digits import Digits
from data.sources.source import Arrays, Source
from data.tasks import DataTask
from data.tasks.task import Batches
from harness.config import Config
from harness.digit_presets import large_digits
from harness.presets import imagenet_s16
from harness.run.loading import open_task, training_rows
from navit_eqx.config import variant
from reference.patches import patchify
from reference.rows import Batch, Row, pack
from reference.tasks.classify import Targets

SHAPES = np.array([(3, 4), (4, 3), (1, 1), (2, 3), (3, 2), (9, 16), (16, 9)], np.int32)  # height, width
CLASSES = 1_000
SEED = 0


def photo_sizes(count: int, scale: int = 100) -> np.ndarray:
    """Heights and widths of `count` images with random shapes of SHAPES."""
    return scale * SHAPES[np.random.default_rng(SEED).integers(len(SHAPES), size=count)]


def preset_on_noise(name: str, rows: int) -> tuple[Config, Source, DataTask]:
    """Large digit strips, or `imagenet-s16` with Ti/16 or S/16; enough images for one batch; and their task."""
    config = large_digits() if name == "digits" else imagenet_s16()
    model = variant("Ti/16") if name == "ti16" else config.model
    classes = 10 if name == "digits" else CLASSES
    count = rows * config.data.packing.shape[1]
    strips = lambda: Digits(train_images=count).open("", "train").manifest.sizes
    sizes = strips() if name == "digits" else photo_sizes(count, scale=40)
    rng = np.random.default_rng(SEED)
    noise = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes.tolist()]
    source = Arrays(noise, rng.integers(0, classes, count), tuple(map(str, range(classes))))
    prepared, task = open_task(config, source.manifest)
    return replace(config, rows=rows, model=model, task=prepared.config), source, task


def training_stream(config: Config, source: Source, task: DataTask) -> Batches:
    """The rows of a run with their targets."""
    return task.batches(training_rows(config, source, task))


def stacked(rows: Sequence[Batch]) -> Batch:
    """Rows and their targets as one batch."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def packed(
    images: Sequence[np.ndarray],
    labels: np.ndarray,
    rows: Sequence[Sequence[int]],
    row_tokens: int,
    row_images: int,
    patch: tuple[int, int],
) -> Batch:
    """Labeled images as one batch, packed into `rows`."""
    tokens = [patchify(image, patch) for image in images]
    batch = Row(
        *map(np.stack, zip(*(pack([tokens[i] for i in row], row, row_tokens, row_images) for row in rows))),
    )
    known = np.where(batch.image_ids >= 0, labels[batch.image_ids], -1).astype(np.int32)
    return Batch(batch, Targets(known, np.full_like(known, -1), np.zeros(known.shape, np.float32)))
