"""Every task on both sides: configurations, random targets, losses."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from navit_eqx import rows
from navit_eqx import tasks as fast
from navit_eqx.tasks.config import Classify, Distill, InverseFrequency, MultiLabel, Sigmoid, Softmax
from navit_eqx.tasks.model import Model
from reference import tasks as slow
from reference.masks import used_slots
from reference.model import forward
from reference.rows import Batch, Row
from tests.support.strategies import CLASSES

LABELS = 3  # most labels in a set
TASKS = {
    "softmax": Classify(classes=CLASSES),
    "softmax, smoothed": Classify(Softmax(0.1), CLASSES),
    "sigmoid": Classify(Sigmoid(), CLASSES),
    "weighted": Classify(Softmax(0.1), CLASSES, InverseFrequency(weights=tuple(0.5 + 0.4 * c for c in range(CLASSES)))),
    "label sets": MultiLabel(CLASSES),
    "distill": Distill("a run", classes=CLASSES),
    "distill decisions": Distill("a run", Sigmoid(), classes=CLASSES),
}
# What its weighted and decided sisters hold as well: every one in the slow tests.
CONTAINED = ("softmax, smoothed", "distill")
every_task = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in CONTAINED else name for name in TASKS]
)
NOTHING = {"labels": -1, "partners": -1, "weights": 0, "label_sets": -1, "partner_sets": -1, "teacher_logits": 0}


def targets_of(task: Any, row: Row, seed: int) -> Any:
    """Random targets of the images of a row: some without a label, or with an empty set; about half are mixed.

    An empty slot has no label; what it holds of label sets and logits does not matter, and is random.
    """
    rng = np.random.default_rng(seed)
    used = row.grids[:, 0] > 0
    slots = len(used)
    mixed = used & (rng.random(slots) < 0.5)
    weights = np.where(mixed, rng.random(slots), 0.0)
    if isinstance(task, Classify):
        labels = np.where(used, rng.integers(-1, CLASSES, slots), -1).astype(np.int32)
        partners = np.where(mixed, rng.integers(0, CLASSES, slots), -1).astype(np.int32)
        return slow.classify.Targets(labels, partners, weights)
    if isinstance(task, MultiLabel):
        own, other = rng.integers(-1, CLASSES, (2, slots, LABELS)).astype(np.int32)
        own[rng.random(slots) < 0.3] = -1
        return slow.multi_label.Targets(own, np.where(mixed[:, None], other, -1).astype(np.int32), weights)
    return slow.distill.Targets(2 * rng.normal(size=(slots, CLASSES)))


def at_slots(targets: Any, places: list[int]) -> Any:
    """The targets of these slots in the first ones of a row, and nothing in the others."""
    leaves = []
    for name, leaf in targets._asdict().items():
        own = np.full_like(leaf, NOTHING[name])
        own[: len(places)] = leaf[places]
        leaves.append(own)
    return type(targets)(*leaves)


def on_device(task: Any, batch: Batch) -> rows.Batch:
    """The batch as the backend reads it."""
    targets = fast.TASKS[type(task)].Targets(*map(jnp.asarray, batch.targets))
    return rows.Batch(rows.to_device(batch.row), targets)


def stacked(batches: list[Batch]) -> Batch:
    """A batch of several rows."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)


def slow_loss(params: dict, batch: Batch) -> tuple[float, int]:
    """(sum, count) of one row, in the reference."""
    task = slow.TASKS[params["task"]["kind"]]
    used = used_slots(batch.row.segment_ids, len(batch.row.grids))
    return task.loss(params["task"], forward(params["backbone"], batch.row), batch.targets, used)


@eqx.filter_jit
def fast_loss(model: Model, batch: rows.Batch) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """(sum, count, extras) in the backend."""
    return model.loss(batch, jr.key(0))


@eqx.filter_jit
def mean_gradient(model: Model, batch: rows.Batch) -> tuple[Model, jax.Array]:
    """Of the loss divided by the count, as a step takes it, for parameters and for pixels."""

    def mean(both):
        model, patches = both
        total, count, _ = model.loss(batch._replace(row=batch.row._replace(patches=patches)), jr.key(0))
        return total / jnp.maximum(count, 1).astype(total.dtype)

    return eqx.filter_grad(mean)((model, batch.row.patches))
