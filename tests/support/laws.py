"""The laws of the method, as functions that raise AssertionError on an implementation that breaks them.

`test_*.py` hold the real code to them; `test_meta.py` checks that sabotaged code is caught.
A `forward` is a function row → one vector or output for each slot, `I n`, in NumPy terms. It may be the backbone, or a
model with its task; `meaning` then gives the vector or output of one image alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from data.plan import Plan
from reference import tasks
from reference.model import forward_image
from reference.rows import Batch, Row, Tokens, pack
from tests.support.strategies import I, Packed, T
from tests.support.tasks import at_slots
from tests.support.tolerances import FLOAT64, GRADIENT64, assert_close

Forward = Callable[[Row], np.ndarray]
Meaning = Callable[[Tokens], np.ndarray]
Loss = Callable[[Batch], tuple[float, int]]


def caught(law: Callable[..., None], *args: Any) -> None:
    """The law does not hold."""
    with pytest.raises(AssertionError):
        law(*args)


def backbone_of(params: dict) -> Meaning:
    """The meaning of a backbone: the vector of a plain ViT."""
    return lambda image: forward_image(params, image)


def model_of(params: dict) -> Meaning:
    """The meaning of a model: the output of its task on the vector of a plain ViT."""
    task = tasks.TASKS[params["task"]["kind"]]
    return lambda image: task.predict(params["task"], forward_image(params["backbone"], image)[None])[0]


def gives_each_image_its_meaning(forward: Forward, meaning: Meaning, packed: Packed) -> None:
    """The central law: a packed row gives each image what a plain ViT gives it alone."""
    outputs = forward(packed.row)
    for slot, image in enumerate(packed.images):
        assert_close(outputs[slot], meaning(image), FLOAT64)


def does_not_see_order(forward: Forward, packed: Packed, order: Sequence[int]) -> None:
    """Images may stand in any order, their tokens too."""
    shuffled = forward(pack(in_order(packed, order), order, T, I))
    if len(order):
        assert_close(shuffled[: len(order)], forward(packed.row)[list(order)], FLOAT64)


def in_order(packed: Packed, order: Sequence[int]) -> list[Tokens]:
    """The images of a row in another order, the tokens of each shuffled."""
    rng = np.random.default_rng(len(order))
    images = []
    for k in order:
        image = packed.images[k]
        mixed = rng.permutation(len(image.patches))
        images.append(Tokens(image.patches[mixed], image.coords[mixed], image.grid))
    return images


def loss_does_not_see_order(loss: Loss, packed: Packed, targets: Any, order: Sequence[int]) -> None:
    """Images and their targets may stand in any order; the sum and the count stay."""
    shuffled = Batch(pack(in_order(packed, order), order, T, I), at_slots(targets, list(order)))
    (got, count), (want, images) = loss(shuffled), loss(Batch(packed.row, targets))
    assert count == images
    assert_close(got, want, FLOAT64)


def loss_is_the_sum_over_images(loss: Loss, packed: Packed, targets: Any) -> None:
    """The loss of a packed row is that of its images, each alone in a row, added up; so is the count."""
    total, count = loss(Batch(packed.row, targets))
    rows = [Batch(pack([image], [slot], T, I), at_slots(targets, [slot])) for slot, image in enumerate(packed.images)]
    parts = [loss(row) for row in rows]
    assert count == sum(n for _, n in parts)
    assert_close(total, sum(part for part, _ in parts), FLOAT64)


def gradient_is_the_sum_over_images(
    gradient: Callable[[Batch], Sequence[np.ndarray]], packed: Packed, targets: Any
) -> None:
    """The gradient of a loss, leaf by leaf, is that of its images, each alone in a row, added up."""
    rows = [Batch(pack([image], [slot], T, I), at_slots(targets, [slot])) for slot, image in enumerate(packed.images)]
    together, parts = gradient(Batch(packed.row, targets)), [gradient(row) for row in rows]
    largest = max(float(np.abs(leaf).max()) for leaf in together)
    for got, *apart in zip(together, *parts, strict=True):
        assert np.abs(got - sum(apart)).max() <= GRADIENT64 * largest


def ignores_padding(forward: Forward, packed: Packed, rubbish: float) -> None:
    """Whatever stands in padding, NaN and positions beyond the table included, changes no bit."""
    pad = packed.row.segment_ids == 0
    row = packed.row._replace(
        patches=np.where(pad[:, None], rubbish, packed.row.patches),
        coords=np.where(pad[:, None], 10_000, packed.row.coords).astype(np.int32),
    )
    count = len(packed.images)
    np.testing.assert_array_equal(forward(row)[:count], forward(packed.row)[:count])


def empty_slots_are_finite(forward: Forward, packed: Packed) -> None:
    """Slots without an image, and rows without one, hold finite numbers."""
    assert np.isfinite(forward(packed.row)).all()


def keeps_gradients_apart(pixel_gradient: Callable[[Row, int], np.ndarray], packed: Packed) -> None:
    """d (loss of image i) / d (pixels of image j) is exactly 0 for i ≠ j, and not 0 for i = j."""
    for slot in range(len(packed.images)):
        gradient = pixel_gradient(packed.row, slot)
        own = packed.row.segment_ids == slot + 1
        assert np.abs(gradient[own]).max() > 0, f"no gradient within image {slot}"
        assert (gradient[~own] == 0).all(), f"image {slot} sees {np.abs(gradient[~own]).max():.3g} of others"


def packs_everything_once(
    rows: Sequence[Sequence[int]], lengths: Sequence[int], row_tokens: int, row_images: int
) -> None:
    """Every image in exactly one row; no row over T or I; none empty."""
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    for row in rows:
        assert 1 <= len(row) <= row_images
        assert sum(lengths[i] for i in row) <= row_tokens


def has_every_image_in_its_block(plans: Sequence[Plan], order: np.ndarray) -> None:
    """The blocks of an epoch are equal stretches of its order, and each names every image of its own exactly once."""
    ends = np.arange(len(plans) + 1) * len(order) // len(plans)
    for plan, start, end in zip(plans, ends, ends[1:]):
        named = plan.image_ids[plan.image_ids >= 0].tolist() + [i for i, _ in plan.left_out]
        assert sorted(named) == sorted(order[start:end].tolist())


def is_divided_once(
    mean_loss: Callable[[np.ndarray, np.ndarray], float], logits: np.ndarray, labels: np.ndarray
) -> None:
    """The loss of a batch is the mean over its images, however they are spread over rows."""
    flat, known = logits.reshape(1, -1, logits.shape[-1]), labels.reshape(1, -1)
    together = mean_loss(flat, known)
    assert_close(mean_loss(logits, labels), together, FLOAT64)
    real = known[0] >= 0
    assert_close(mean_loss(flat[:, real], known[:, real]), together, FLOAT64)


def gives_slots_their_labels(batch: Batch, labels_of: dict[int, int]) -> None:
    """Slot s holds label and id of the image whose tokens carry segment s + 1."""
    row, targets = batch
    for slot, image_id in enumerate(row.image_ids):
        has_tokens = (row.segment_ids == slot + 1).any()
        assert has_tokens == (targets.labels[slot] >= 0)
        if has_tokens:
            assert targets.labels[slot] == labels_of[int(image_id)]


def stand_in_the_same_slots(student: Row, teacher: Row) -> None:
    """Image by image, with tokens in both rows, so that logits can be compared slot by slot."""
    np.testing.assert_array_equal(student.image_ids, teacher.image_ids)
    for slot, grid in enumerate(student.grids):
        for row in (student, teacher):
            assert (row.segment_ids == slot + 1).any() == (grid[0] > 0), f"slot {slot}"


def layers_differ(stacked: np.ndarray) -> None:
    """No two layers share their first weights."""
    for a in range(len(stacked)):
        for b in range(a):
            assert not np.array_equal(stacked[a], stacked[b]), f"layers {b} and {a} start alike"


def alone(batch: Row, row: int, slot: int) -> Tokens:
    """The tokens of one slot of a batch."""
    here = batch.segment_ids[row] == slot + 1
    return Tokens(batch.patches[row][here], batch.coords[row][here], batch.grids[row][slot])
