"""Distillation: the loss is that of each image alone; the logits of the teacher are the target, no more."""

from functools import lru_cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from data.tasks.distill import Targets, TeacherBudget
from navit_eqx import rows as device
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.distill import TeacherProgram
from navit_eqx.training.config import OptimConfig
from navit_eqx.training.step import init, train_step
from reference.masks import used_slots
from reference.patches import normalize
from reference.rows import Batch, Row, Tokens
from reference.tasks import distill as losses
from tests.support import laws
from tests.support.distill import FAST, PARAMS, SAME, TEACHER, TEACHER_PARAMS, VIEW, pairs_of, used
from tests.support.laws import caught
from tests.support.strategies import CLASSES, CONFIG, PATCH, TASK, I, T, model
from tests.support.tasks import slow_loss
from tests.support.tolerances import FLOAT64, GRADIENT64, assert_close

SGD = optax.sgd(1.0)


@pytest.fixture(autouse=True)
def promotion():
    """Optax multiplies floats by integer step counts."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@lru_cache
def stepper(accumulate: int = 1):
    config = OptimConfig(accumulate=accumulate)
    static = eqx.filter(FAST, eqx.is_inexact_array, inverse=True)
    step = partial(train_step, static=static, optimizer=SGD, config=config, seed=0)
    return init(FAST, SGD, config), jax.jit(step)


@lru_cache
def program(name: str):
    """Targets of the data → teacher logits, as a run makes them."""
    return TeacherProgram({"teacher": TEACHER, "student": FAST, "another": OTHER}[name])


OTHER = model(5, CONFIG, TASK)


def batch_of(student: Row, teacher: Row, name: str = "teacher") -> device.Batch:
    """What a step reads."""
    return device.Batch(to_device(student), program(name)(Targets(to_device(teacher))))


def floats(row: Row) -> Row:
    return row._replace(patches=normalize(row.patches).astype(float))


@lru_cache
def whole_batch(view=VIEW) -> tuple[Row, Row]:
    rows = pairs_of(SAME, view)
    pairs = [(row, targets.teacher_row) for row, targets in (rows[r] for r in range(len(rows) // 2 * 2))]
    return tuple(Row(*map(np.stack, zip(*map(floats, side)))) for side in zip(*pairs))


def logits_alone(params: dict, batch: Row) -> dict[int, np.ndarray]:
    """Image → the logits of a model for it alone."""
    meaning, found = laws.model_of(params), {}
    for row in range(len(batch.image_ids)):
        for slot in np.flatnonzero(batch.grids[row, :, 0] > 0):
            found[int(batch.image_ids[row, slot])] = meaning(laws.alone(batch, row, slot))
    return found


def divergence_image_by_image(student: Row, teacher: Row) -> float:
    """Σ KL between the logits of both for each image alone; which image a slot holds, the student's row says."""
    own, taught = logits_alone(PARAMS, student), logits_alone(TEACHER_PARAMS, teacher)
    one = np.ones(1, bool)
    return sum(losses.kl_divergence(own[i][None], taught[i][None], one)[0] for i in own)


def learns_from_each_image(student: Row, teacher: Row, shown: Row, accumulate: int = 1) -> None:
    """The loss of packed rows is that of each image alone, however teacher and student pack it."""
    state, step = stepper(accumulate)
    _, metrics = step(state, batch_of(student, shown))
    assert int(metrics.images) == int(metrics.count) == (student.grids[..., 0] > 0).sum()
    assert_close(metrics.loss_sum, divergence_image_by_image(student, teacher), FLOAT64)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_loss_is_that_of_each_image_alone(accumulate):
    student, teacher = whole_batch()
    learns_from_each_image(student, teacher, teacher, accumulate)


def test_slots_shifted_by_one():
    student, teacher = whole_batch()
    ids = teacher.segment_ids
    moved = np.where(ids > 0, ids % I + 1, 0).astype(np.int32)
    wrong = teacher._replace(segment_ids=moved, grids=np.roll(teacher.grids, 1, 1))
    caught(learns_from_each_image, student, teacher, wrong)


def test_another_row_of_the_teacher():
    student, teacher = whole_batch()
    other = Row(*(np.roll(leaf, 1, 0) for leaf in teacher))
    caught(learns_from_each_image, student, teacher, other)


def test_the_gradient_takes_the_teacher_as_it_is():
    """d KL / d student with the teacher's logits as constants; nothing reaches the teacher, which stays usable."""
    student, teacher = whole_batch()
    state, step = stepper()
    before = [np.array(leaf) for leaf in jax.tree.leaves(TEACHER)]
    after, metrics = step(state, batch_of(student, teacher))
    constants = jnp.asarray(np.asarray(eqx.filter_jit(TEACHER)(to_device(teacher))))
    batch = device.Batch(to_device(student), FAST.task.Targets(constants))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(model):
        total, count, _ = model.loss(batch, jr.key(0))
        return total / count.astype(total.dtype)

    want = jax.tree.leaves(gradient(FAST))
    for old, new, g in zip(jax.tree.leaves(state.model), jax.tree.leaves(after.model), want, strict=True):
        assert np.abs(np.asarray(old - new) - np.asarray(g)).max() <= GRADIENT64 * max(1.0, float(metrics.grad_norm))
    assert float(metrics.grad_norm) > 0
    for old, new in zip(before, jax.tree.leaves(TEACHER)):
        np.testing.assert_array_equal(old, new)


def teaches_nothing(student, shown, name) -> None:
    state, step = stepper()
    _, metrics = step(state, batch_of(student, shown, name))
    assert abs(float(metrics.loss_sum)) < FLOAT64 and float(metrics.grad_norm) < FLOAT64
    assert int(metrics.extras["agreement"]) == int(metrics.count)


def test_a_teacher_that_is_the_student_teaches_nothing():
    """At its own patch size and without dropping: loss 0, gradient 0, and full agreement."""
    _, shown = whole_batch(TeacherBudget(PATCH, T, 6))
    teaches_nothing(shown, shown, "student")
    caught(teaches_nothing, shown, shown, "another")


def test_batches_of_one_shape_share_one_program():
    """Whatever is in the rows, and whatever the teacher says of them."""
    student, teacher = whole_batch()
    _, step = stepper.__wrapped__()
    state, _ = stepper()
    for shown in (teacher, Row(*(np.roll(leaf, 1, 0) for leaf in teacher))):
        step(state, batch_of(student, shown))
    assert step._cache_size() == 1


def test_the_student_is_a_classifier_in_the_end():
    """With the same logits, and without a trace of the teacher."""
    row = to_device(Row(*(leaf[0] for leaf in whole_batch()[0])))
    plain = FAST.for_inference()
    assert plain.task.config == Classify(classes=CLASSES)
    jitted = eqx.filter_jit(lambda model, row: model(row))
    np.testing.assert_array_equal(jitted(plain, row), jitted(FAST, row))


def test_the_reference_says_the_same_of_a_row():
    """The whole loss of a row, from the teacher's row on."""
    student, teacher = (Row(*(leaf[0] for leaf in side)) for side in whole_batch())
    total, count, _ = eqx.filter_jit(lambda model, batch: model.loss(batch, jr.key(0)))(
        FAST, batch_of(student, teacher)
    )
    said = laws.model_of(TEACHER_PARAMS)
    logits = np.zeros((I, CLASSES))
    for slot in used(teacher):
        here = teacher.segment_ids == slot + 1
        logits[slot] = said(Tokens(teacher.patches[here], teacher.coords[here], teacher.grids[slot]))
    want, images = slow_loss(PARAMS, Batch(student, losses.Targets(logits)))
    assert int(count) == images == used_slots(student.segment_ids, I).sum()
    assert_close(total, want, FLOAT64)
