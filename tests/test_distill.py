"""Distillation: the teacher sees the same pictures in the same slots, and what it says is the target, no more."""

import pickle
from dataclasses import replace
from functools import lru_cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import BadImage, DataError
from data.pipeline import batches
from data.plan import epoch_order, grids_of, plan_epoch, planned_for
from data.rows import PlannedRows
from data.sampling.augment import Augment, Mix
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.patch_size import OneSize, PerImage, PerStep
from data.sampling.resolution import Native, Sides
from data.sampling.teacher import TeacherView
from data.sources.decode import resize
from data.sources.source import Arrays
from data.stream import Epochs
from data.tasks.distill import LessonRows, lessons
from harness.evaluation.pictures import image_of
from navit_eqx.errors import ConfigError
from navit_eqx.rows import to_device
from navit_eqx.tasks import loss_sum
from navit_eqx.tasks.config import Distill
from navit_eqx.training.config import OptimConfig
from navit_eqx.training.step import init, train_step
from navit_eqx.weights.bridge import to_reference
from reference.model import forward_image
from reference.patches import normalize, patchify
from reference.resize import FLEXIVIT
from reference.rows import Row
from reference.tasks import classify as losses
from tests.support import laws
from tests.support.strategies import CONFIG, PATCH, I, T, filled, model, seeds
from tests.test_flexi import ARRAYS, FAST, IMAGES, PARAMS, sees_each_image_at_its_size
from tests.test_flexi import HALF as FLOAT16
from tests.test_meta import caught
from tests.test_plan import holds_every_image_once, sizes_of
from tests.support.tolerances import FLOAT64, GRADIENT64, assert_close

SAME = OneSize(PATCH)
VIEW = TeacherView(patch_size=3, row_tokens=20, longest_side=6)
TEACHER = model(1, replace(CONFIG, patch_size=VIEW.patch_size))
TEACHER_PARAMS = to_reference(TEACHER)


def plan_of(law, view=VIEW):
    return plan_epoch(
        ARRAYS.manifest.sizes, seed=1, epoch=0, patch_size=law, resolution=Native(), dropping=Constant(0.2),
        packing=Packing(T, I), longest_side=6, teacher=view,
    ).complete()  # fmt: skip


NATIVE = Native()


def taught_by(view, epoch: int, *, resolution=NATIVE, sizes=ARRAYS.manifest.sizes, seed: int = 1):
    """The images of an epoch in the order of their turns, and the grids at which the teacher sees them."""
    images = epoch_order(len(sizes), seed, epoch)
    return images, grids_of(resolution, sizes[images], seed, epoch, 0, view.patch_size)


def lessons_of(law, view=VIEW, source=ARRAYS) -> LessonRows:
    plan = plan_of(law, view)
    epochs = Epochs({0: plan}.__getitem__)
    mapped = None if isinstance(law, OneSize) else FLEXIVIT
    rows = PlannedRows(source, epochs, len(plan.image_ids), PATCH, T, 1, None, interpolation=mapped)
    return lessons(rows, view, partial(taught_by, view))


# plans --------------------------------------------------------------------------------------------


def fits_both_rows(plan, view: TeacherView, taught) -> None:
    """Whatever shares a student's row fits a teacher's row with all its tokens, and no image is in another slot."""
    taught = planned_for(view, plan, *taught)
    np.testing.assert_array_equal(taught.image_ids, plan.image_ids)
    assert (taught.kept == taught.grids.prod(-1)).all()
    assert (taught.kept.sum(-1) <= view.row_tokens).all()
    assert taught.grids.max() <= view.longest_side


@given(
    seed=seeds,
    count=st.integers(1, 60),
    law=st.sampled_from([OneSize(8), PerImage((8, 12, 16)), PerStep((8, 16))]),
    view=st.builds(TeacherView, st.sampled_from([6, 8, 16]), st.integers(20, 200), st.integers(4, 20)),
    fill=st.sampled_from(["none", "rate", "resolution"]),
)
def test_what_shares_a_row_fits_the_row_of_the_teacher(seed, count, law, view, fill):
    sizes, resolution = sizes_of(seed, count, median=80.0), Sides(32, 96)
    packing = Packing(70, 6, fill=fill)
    try:
        plan = plan_epoch(
            sizes, seed=seed, epoch=2, patch_size=law, resolution=resolution, dropping=Constant(0.3),
            packing=packing, longest_side=20, step_rows=2, teacher=view,
        )  # fmt: skip
    except DataError as error:
        assert str(error).startswith(f"none of {count} images fits a row")
        return
    used = (plan.image_ids >= 0).any(-1)
    holds_every_image_once(type(plan)(*(table[used] for table in plan[:4]), plan.left_out), count, packing)
    fits_both_rows(plan, view, taught_by(view, 2, resolution=resolution, sizes=sizes, seed=seed))


def test_a_plan_for_the_student_alone(monkeypatch):
    monkeypatch.setattr(TeacherView, "room", lambda self, kept, grids, row_tokens: kept)
    tight = VIEW._replace(row_tokens=16)
    caught(fits_both_rows, plan_of(PerImage((2, 3, 4)), tight), tight, taught_by(tight, 0))


def test_an_image_that_the_teacher_cannot_see_is_named():
    with pytest.raises(DataError, match="the teacher's rows or positions end before it does: raise loss.row-tokens"):
        plan_of(OneSize(2), VIEW._replace(longest_side=3))


# rows ---------------------------------------------------------------------------------------------


def shows_the_teacher_each_image(rows: LessonRows) -> None:
    """Slot by slot the image of the student, whole, in the teacher's patches; and the student's row is its own."""
    for r in range(len(rows)):
        student, teacher = rows[r]
        laws.stand_in_the_same_slots(student, teacher)
        for slot in np.flatnonzero(student.labels >= 0):
            size, here = rows.teacher.patch_size, teacher.segment_ids == slot + 1
            image = IMAGES[student.image_ids[slot]]
            whole = patchify(resize(image, tuple((teacher.grids[slot] * size).tolist())), (size, size))
            for got, want in zip((teacher.patches[here], teacher.coords[here]), whole):
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("law", [SAME, PerImage((2, 3, 4))], ids=["one size", "mixed"])
def test_the_teacher_sees_the_images_of_the_student(law):
    rows = lessons_of(law)
    shows_the_teacher_each_image(rows)
    sees_each_image_at_its_size(rows.student, FLOAT64 if law == SAME else FLOAT16)


class Flickers(Arrays):
    """Every image can be read once in two."""

    asked: dict

    def image(self, index, shrink=1):
        self.asked[index] = self.asked.get(index, 0) + 1
        if index % 2 and self.asked[index] % 2 == 0:
            raise BadImage("the disk is away")
        return super().image(index, shrink)


def flickering() -> LessonRows:
    source = Flickers(IMAGES, ARRAYS.manifest.labels, ARRAYS.manifest.classes)
    source.asked = {}
    return lessons_of(OneSize(2), source=source)


def test_an_image_is_read_once_for_both(monkeypatch):
    shows_the_teacher_each_image(flickering())
    monkeypatch.setattr("data.lessons.ReadOnce", lambda source: source)
    caught(shows_the_teacher_each_image, flickering())


def smooth(seed: int, size: tuple[int, int]) -> np.ndarray:
    """A picture without fine detail, which looks alike at two sizes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), np.uint8)
    return resize(coarse, size)


PHOTOS = [smooth(i, size) for i, size in enumerate([(60, 90), (120, 70), (80, 80), (64, 128), (100, 60), (90, 90)])]
LARGE = TeacherView(patch_size=10, row_tokens=400, longest_side=64)


def augmented_lessons(augment: Augment) -> LessonRows:
    source = Arrays(PHOTOS, np.arange(len(PHOTOS), dtype=np.int32), classes=tuple("abcdef"))
    sizes = source.manifest.sizes
    plan = plan_epoch(
        sizes, seed=5, epoch=0, patch_size=8, resolution=Native(), dropping=Constant(0.0),
        packing=Packing(600, 6), longest_side=64, teacher=LARGE,
    )  # fmt: skip
    rows = PlannedRows(source, Epochs({0: plan}.__getitem__), len(plan.image_ids), 8, 600, 5, augment)
    return lessons(rows, LARGE, partial(taught_by, LARGE, sizes=sizes, seed=5))


def shows_both_the_same_picture(rows: LessonRows) -> None:
    """Crop, mirror, turn, colours, and the partner with its place: at another size, hence but for a few levels."""
    for r in range(len(rows)):
        student, teacher = rows[r]
        np.testing.assert_array_equal(student.partners, teacher.partners)
        for slot in (np.flatnonzero(student.labels >= 0) + 1).tolist():
            seen = image_of(teacher, slot)
            same = resize(image_of(student, slot), seen.shape[:2])
            assert np.median(np.abs(same.astype(float) - seen)) < 6
            assert np.abs(same.astype(float) - seen).mean() < 12


ALL = Augment(flip=True, crop=0.4, stretch=0.3, rotate=0.3, jitter=0.3)


@pytest.mark.parametrize("mix", [None, Mix(share=1, cut=0.0), Mix(share=1, cut=1.0)], ids=["alone", "mixup", "CutMix"])
def test_both_see_the_same_crop(mix):
    shows_both_the_same_picture(augmented_lessons(replace(ALL, mix=mix)))


def test_crops_of_their_own():
    rows = augmented_lessons(ALL)
    rows.teacher.seed += 1
    caught(shows_both_the_same_picture, rows)


def test_lessons_come_in_batches_from_any_place_and_through_pickle():
    rows = lessons_of(PerImage((2, 3, 4)))
    whole, later = list(batches(rows, 1)), list(batches(pickle.loads(pickle.dumps(rows)), 1, start=1))
    assert len(later) == len(whole) - 1 >= 1
    for a, b in zip(whole[1:], later):
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_array_equal(x, y)
    assert whole[0].student.labels.shape == whole[0].teacher.labels.shape == (1, I)


# the step -----------------------------------------------------------------------------------------


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
    step = partial(train_step, static=static, loss=Distill("somewhere"), optimizer=SGD, config=config, seed=0)
    return init(FAST, SGD, config), jax.jit(step)


def floats(row: Row) -> Row:
    return row._replace(patches=normalize(row.patches).astype(float))


def whole_batch(view=VIEW) -> tuple[Row, Row]:
    rows = lessons_of(SAME, view)
    pairs = [rows[r] for r in range(len(rows) // 2 * 2)]
    return tuple(floats(Row(*map(np.stack, zip(*side)))) for side in zip(*pairs))


def divergence_image_by_image(student: Row, teacher: Row) -> float:
    """Σ KL between what both say of each image alone; which image a slot holds is what the student's row says."""
    total = 0.0
    told = {}
    for row in range(len(teacher.labels)):
        for slot in np.flatnonzero(teacher.labels[row] >= 0):
            told[int(teacher.image_ids[row, slot])] = forward_image(TEACHER_PARAMS, laws.alone(teacher, row, slot))
    for row in range(len(student.labels)):
        for slot in np.flatnonzero(student.labels[row] >= 0):
            said = forward_image(PARAMS, laws.alone(student, row, slot))
            taught = told[int(student.image_ids[row, slot])]
            total += losses.kl_divergence(said[None], taught[None], np.zeros(1, int))[0]
    return total


def learns_from_each_image(student: Row, teacher: Row, shown: Row, accumulate: int = 1) -> None:
    """The loss of packed rows is that of each image alone, however teacher and student pack it."""
    state, step = stepper(accumulate)
    _, metrics = step(state, to_device(student), TEACHER, to_device(shown))
    assert int(metrics.images) == (student.labels >= 0).sum()
    assert_close(metrics.loss, divergence_image_by_image(student, teacher), FLOAT64)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_loss_is_that_of_each_image_alone(accumulate):
    student, teacher = whole_batch()
    learns_from_each_image(student, teacher, teacher, accumulate)


def test_slots_shifted_by_one():
    student, teacher = whole_batch()
    ids = teacher.segment_ids
    ema_update = np.where(ids > 0, ids % I + 1, 0).astype(np.int32)
    caught(
        learns_from_each_image,
        student,
        teacher,
        teacher._replace(segment_ids=ema_update, grids=np.roll(teacher.grids, 1, 1)),
    )


def test_another_row_of_the_teacher():
    student, teacher = whole_batch()
    other = Row(*(np.roll(leaf, 1, 0) for leaf in teacher))
    caught(learns_from_each_image, student, teacher, other)


def test_the_gradient_takes_the_teacher_as_it_is():
    """d KL / d student with the teacher's logits as constants; nothing reaches the teacher, which stays usable."""
    student, teacher = whole_batch()
    state, step = stepper()
    before = [np.array(leaf) for leaf in jax.tree.leaves(TEACHER)]
    after, metrics = step(state, to_device(student), TEACHER, to_device(teacher))
    taught = jnp.asarray(np.asarray(eqx.filter_jit(TEACHER)(to_device(teacher))))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(model):
        total, count = loss_sum(Distill("somewhere"), model(to_device(student)), to_device(student), taught)
        return total / count.astype(total.dtype)

    want = jax.tree.leaves(gradient(FAST))
    for old, new, g in zip(jax.tree.leaves(state.model), jax.tree.leaves(after.model), want, strict=True):
        assert np.abs(np.asarray(old - new) - np.asarray(g)).max() <= GRADIENT64 * max(1.0, float(metrics.grad_norm))
    assert float(metrics.grad_norm) > 0
    for old, new in zip(before, jax.tree.leaves(TEACHER)):
        np.testing.assert_array_equal(old, new)


def says_nothing_new(student, teacher, shown) -> None:
    state, step = stepper()
    _, metrics = step(state, to_device(student), teacher, to_device(shown))
    assert abs(float(metrics.loss)) < 1e-10 and float(metrics.grad_norm) < 1e-10


def test_a_teacher_that_is_the_student_teaches_nothing():
    """At its own patch size and without dropping: loss 0, gradient 0, in one compiled program for all batches."""
    view = TeacherView(PATCH, T, 6)
    _, shown = whole_batch(view=view)
    says_nothing_new(shown, FAST, shown)
    caught(says_nothing_new, shown, filled(CONFIG, 5, "float64"), shown)
    assert stepper()[1]._cache_size() <= 3  # by shape of the rows: never by what is in them or in the teacher


def test_distillation_needs_a_teacher():
    labels = to_device(whole_batch()[0])
    with pytest.raises(ConfigError, match="compares with a teacher"):
        loss_sum(Distill("somewhere"), jnp.zeros((*labels.labels.shape, 7)), labels)
