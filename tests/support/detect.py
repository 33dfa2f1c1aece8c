"""Detection: random boxes of the images of a row, losses on both sides."""

from functools import lru_cache

import numpy as np

from navit_eqx.tasks.config_detect import Centre, Detect, Hungarian, Weights
from navit_eqx.tasks.model import Model
from reference import model as slow_model
from reference.rows import Batch, Row
from reference.tasks import detect as slow
from tests.support.strategies import CONFIG, model

CLASSES, MOST, FOUND = 3, 12, 5  # boxes in a row, detections of an image
TASKS = {
    "hungarian": Detect(Hungarian(), Weights(1.0, 2.0, 0.5), boxes=MOST, detections=FOUND, classes=CLASSES),
    "centre": Detect(Centre(), unit="image", boxes=MOST, detections=FOUND, classes=CLASSES),
}


@lru_cache
def detector(name: str) -> Model:
    """A float64 model in which every parameter matters."""
    return model(task=TASKS[name])


def reference_of(params: dict) -> dict:
    """Parameters of the task as the reference reads them."""
    return params["task"] | {"patch": CONFIG.patch}


def boxes_of(row: Row, seed: int, most: int = MOST) -> slow.Targets:
    """Random boxes inside their images, never more than an image has tokens; in any order."""
    rng = np.random.default_rng(seed)
    slots = np.concatenate([[0], *(row.segment_ids[row.segment_ids == s + 1][:4] for s in range(len(row.grids)))])
    chosen = rng.permutation(slots[1:])[: rng.integers(0, most + 1)]
    ids = np.zeros(most, np.int32)
    ids[: len(chosen)] = chosen
    ids = rng.permutation(ids)
    low, high = np.sort(rng.random((2, most, 2)), 0)
    sides = np.maximum(high - low, 0.02)
    boxes = np.concatenate([low + sides / 2, sides], -1)
    return slow.Targets(np.where(ids[:, None] > 0, boxes, 0), rng.integers(0, CLASSES, most).astype(np.int32), ids)


def slow_sums(params: dict, batch: Batch) -> tuple[float, int]:
    """(sum, count) of one row."""
    tokens, _ = slow_model.encode(params["backbone"], batch.row)
    return slow.loss(reference_of(params), tokens, batch.row, batch.targets)
