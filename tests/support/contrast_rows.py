"""Rows of pairs of a few small images and captions, and a small model that reads both."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from data.errors import BadImage
from data.manifest import Manifest
from data.plan import EpochPlans
from data.rows import Pixels, PlannedRows
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.patch_size import OneSize
from data.sampling.resolution import Native
from data.sources.source import Arrays
from data.stream import Epochs
from data.tasks.contrast import Contrast as PairData
from data.tasks.contrast import PairRows
from navit_eqx.config import Factorised
from navit_eqx.rows import Batch as DeviceBatch
from navit_eqx.rows import Row as DeviceRow
from navit_eqx.tasks.config import Bytes, Clip, Contrast, SigLip, TextRows, TextTower
from navit_eqx.tasks.contrast import device_targets
from reference.rows import Batch
from tests.support.strategies import CONFIG, model

COUNT, PATCH, ROWS = 24, (2, 2), 4
CAPTIONS = ("a dog", "A dog!", "a cat", "two cats", "", "a small red dog", "birds")
SETS = np.stack([np.arange(COUNT) % 7, np.where(np.arange(COUNT) % 3, (np.arange(COUNT) + 2) % 7, -1)], -1)
TOKENIZER = Bytes(10)
TASK = Contrast(text=TextTower(8, 1, 1, 8, "float64"), tokenizer=TOKENIZER, embedding=6, texts=TextRows(2, 30, 8))
SHAPE = replace(CONFIG, posembed=Factorised(12), depth=1)
_rng = np.random.default_rng(3)
IMAGES = [_rng.integers(0, 256, (*_rng.integers(2, 9, 2), 3), np.uint8) for _ in range(COUNT)]


@dataclass
class Pictures:
    """Images with captions, of which some cannot be read."""

    manifest: Manifest
    bad: frozenset[int] = frozenset()

    def image(self, index: int, shrink: int = 1) -> np.ndarray:
        if index in self.bad:
            raise BadImage("spoilt")
        return IMAGES[index]


def rows_of(
    bad: frozenset[int] = frozenset(),
    shards: int = 1,
    seed: int = 0,
    texts: TextRows = TASK.texts,
    captions: tuple[str, ...] = CAPTIONS,
    sets: np.ndarray = SETS,
) -> PairRows:
    """Rows of pairs over several epochs."""
    packing = Packing(24, 6)
    source = Pictures(Arrays(IMAGES, sets.astype(np.int32), captions).manifest, bad)
    task = PairData(tokenizer=TOKENIZER, texts=texts, shards=shards, loss=SigLip())
    sampling = dict(
        seed=seed, patch_size=OneSize(PATCH), resolution=Native(), dropping=Constant(0.25), packing=packing,
        longest_side=12, step_rows=ROWS,
    )  # fmt: skip
    plans = task.plans(EpochPlans(source, sampling), ROWS)
    return task.batches(PlannedRows(source, Epochs(plans), 64, Pixels(PATCH), packing.shape[0], seed, None))


@lru_cache
def towers(kind: str = "sigmoid", duplicates: Any = "positive", parts: int = 1) -> Any:
    """A small model in float64 that reads images and texts."""
    loss = SigLip(bias=-1.0) if kind == "sigmoid" else Clip()
    return model(0, SHAPE, replace(TASK, loss=loss, duplicates=duplicates, parts=parts))


def on_device(batch: Batch) -> DeviceBatch:
    row, targets = jax.tree.map(jnp.asarray, batch)
    return DeviceBatch(DeviceRow(*row), device_targets(targets))


def in_float64(batch: Batch) -> Batch:
    """The batch with pixels normalized in float64: the model would do so in float32."""
    return batch._replace(row=batch.row._replace(patches=batch.row.patches / 127.5 - 1))


def loss_of(made: Any, batch: Batch) -> tuple[float, int]:
    total, count, _ = eqx.filter_jit(made.loss)(on_device(batch), jr.key(0))
    return float(total), int(count)
