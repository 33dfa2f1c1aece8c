"""Detection: random boxes of the images of a row, losses on both sides."""

from functools import lru_cache

import numpy as np

from navit_eqx.tasks.config import TextTower
from navit_eqx.tasks.config_detect import ByText, Centre, Detect, Hungarian, PerClass, Weights
from navit_eqx.tasks.model import Model
from navit_eqx.text import Bytes
from reference import model as slow_model
from reference import text as slow_text
from reference.rows import Batch, Row, pack
from reference.tasks import class_heads
from reference.tasks import detect as slow
from tests.support.strategies import CONFIG, model

CLASSES, MOST, FOUND = 3, 12, 5  # boxes in a row, detections of an image
NAMES = ("a", "the second", "dog")  # whose texts are packed in another order
HEAD = ByText(("{}", "one {}"), (), ("nothing at all",), TextTower(8, 1, 2, 8, "float64"), Bytes(12), 6)
BY_TEXT = HEAD.asking(HEAD.prompts(NAMES))
TASKS = {
    "hungarian": Detect(PerClass(), Hungarian(), Weights(1.0, 2.0, 0.5), boxes=MOST, detections=FOUND, classes=CLASSES),
    "centre": Detect(PerClass(), Centre(), unit="image", boxes=MOST, detections=FOUND, classes=CLASSES),
    "texts": Detect(BY_TEXT, boxes=MOST, detections=FOUND, classes=CLASSES),
}


@lru_cache
def detector(name: str) -> Model:
    """A float64 model in which every parameter matters."""
    return model(task=TASKS[name])


def reference_of(params: dict, classes: int | None = None) -> dict:
    """Parameters of the task as the reference reads them; where texts name classes, with the vectors of the first
    `classes` of them."""
    task = params["task"] | {"patch": CONFIG.patch, "pool": params["backbone"]["pool"]}
    head = task["class_head"]
    if head["kind"] == "Linear":
        return task
    ids = [slow_text.encode(text, 12) for text in head["config"].texts]
    row = pack([slow_text.tokens_of(each) for each in ids], range(len(ids)), 12 * len(ids), len(ids) + 1)
    owners = np.array(head["config"].owners)
    vectors = class_heads.class_vectors(head, row, owners, slow_text.VOCABULARY)[:classes]
    return task | {"class_head": head | {"vectors": vectors}}


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
