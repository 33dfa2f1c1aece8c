"""Distillation: the teacher reads the same pictures in the same slots, and its logits are the target, no more."""

import pickle
from dataclasses import replace
from functools import lru_cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import BadImage, DataError
from data.pipeline import batches
from data.plan import EpochPlans, epoch_order, grids_of, plan_epoch
from data.rows import Pixels, PlannedRows
from data.sampling.augment import Augment, Mix
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.patch_size import OneSize, PerImage, PerStep
from data.sampling.resolution import Native, Sides
from data.sources.decode import resize
from data.sources.source import Arrays
from data.stream import Epochs
from data.tasks import TASKS
from data.tasks.distill import PairedRows, Targets, TeacherBudget, plan_for_teacher
from harness.evaluation.pictures import image_of
from navit_eqx import rows as device
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Classify, Distill
from navit_eqx.tasks.distill import TeacherProgram
from navit_eqx.training.config import OptimConfig
from navit_eqx.training.step import init, train_step
from navit_eqx.weights.bridge import to_reference
from reference.masks import used_slots
from reference.patches import normalize, patchify
from reference.resize import FLEXIVIT
from reference.rows import Batch, Row, Tokens
from reference.tasks import distill as losses
from tests.support import laws
from tests.support.flexi import ARRAYS, IMAGES, sees_each_image_at_its_size
from tests.support.laws import caught
from tests.support.plans import holds_every_image_once, sizes_of
from tests.support.strategies import CLASSES, CONFIG, PATCH, TASK, I, T, model, seeds
from tests.support.tasks import slow_loss
from tests.support.tolerances import FLOAT16, FLOAT64, GRADIENT64, assert_close

SAME = OneSize(PATCH)
VIEW = TeacherBudget(patch=(3, 3), row_tokens=20, longest_side=6)
FAST = model(task=Distill("a run", classes=CLASSES))
PARAMS = to_reference(FAST)
TEACHER = model(1, replace(CONFIG, patch=VIEW.patch), TASK)
TEACHER_PARAMS = to_reference(TEACHER)
NATIVE = Native()


def plans_of(law, view=VIEW, source=ARRAYS, **changes) -> EpochPlans:
    """Plans in which student and teacher share rows."""
    sampling = {
        "seed": 1, "patch_size": law, "resolution": NATIVE, "dropping": Constant(0.2), "packing": Packing(T, I),
        "longest_side": 6, "budget": view,
    }  # fmt: skip
    return EpochPlans(source, sampling | changes)


def taught_by(view, epoch: int, *, resolution=NATIVE, sizes=ARRAYS.manifest.sizes, seed: int = 1):
    """The images of an epoch in shuffled order, and the grids at which the teacher sees them."""
    images = epoch_order(len(sizes), seed, epoch)
    return images, grids_of(resolution, sizes[images], seed, epoch, 0, view.patch)


def paired(plans: EpochPlans, view, pixels: Pixels, augment: Augment | None = None) -> PairedRows:
    """All rows of the first epoch, in pairs."""
    plan = plans(0).complete()
    packing, seed = plans.sampling["packing"], plans.sampling["seed"]
    rows = PlannedRows(plans.source, Epochs(plans), len(plan.image_ids), pixels, packing.row_tokens, seed, augment)
    known = {"sizes": CONFIG.sizes | {"classes": CLASSES}, "mean": (0.5,), "std": (0.5,)}
    return TASKS["Distill"](**vars(view), **known).batches(rows)


def pairs_of(law, view=VIEW, source=ARRAYS) -> PairedRows:
    mapped = None if isinstance(law, OneSize) else FLEXIVIT
    return paired(plans_of(law, view, source), view, Pixels(PATCH, interpolation=mapped))


def used(row: Row) -> np.ndarray:
    """Slots with an image."""
    return np.flatnonzero(row.grids[..., 0] > 0)


# plans --------------------------------------------------------------------------------------------


def fits_both_rows(plan, view: TeacherBudget, taught) -> None:
    """Whatever shares a student's row fits a teacher's row with all its tokens, and no image is in another slot."""
    seen = plan_for_teacher(view.patch, plan, *taught)
    np.testing.assert_array_equal(seen.image_ids, plan.image_ids)
    assert (seen.kept == seen.grids.prod(-1)).all()
    assert (seen.kept.sum(-1) <= view.row_tokens).all()
    assert seen.grids.max() <= view.longest_side
    assert (seen.patch_sizes == view.patch).all()


@given(
    seed=seeds,
    count=st.integers(1, 60),
    law=st.sampled_from([OneSize((8, 8)), PerImage((8, 12, 16)), PerStep((8, 16))]),
    view=st.builds(
        TeacherBudget, st.sampled_from([(6, 6), (8, 8), (16, 16), (8, 12)]), st.integers(20, 200), st.integers(4, 20)
    ),
    fill=st.sampled_from(["none", "rate", "resolution"]),
)
def test_what_shares_a_row_fits_the_row_of_the_teacher(seed, count, law, view, fill):
    sizes, resolution = sizes_of(seed, count, median=80.0), Sides(32, 96)
    packing = Packing(70, 6, fill=fill)
    try:
        plan = plan_epoch(
            sizes, seed=seed, epoch=2, patch_size=law, resolution=resolution, dropping=Constant(0.3),
            packing=packing, longest_side=20, step_rows=2, budget=view,
        )  # fmt: skip
    except DataError as error:
        assert str(error).startswith(f"none of {count} images fits a row")
        return
    some = (plan.image_ids >= 0).any(-1)
    holds_every_image_once(type(plan)(*(table[some] for table in plan[:4]), plan.left_out), count, packing)
    fits_both_rows(plan, view, taught_by(view, 2, resolution=resolution, sizes=sizes, seed=seed))


def test_a_plan_for_the_student_alone(monkeypatch):
    tight = replace(VIEW, row_tokens=16)
    law = PerImage((2, 3, 4))
    fits_both_rows(plans_of(law, tight)(0), tight, taught_by(tight, 0))
    monkeypatch.setattr(TeacherBudget, "tokens", lambda self, kept, grids_at, row_tokens: kept)
    caught(fits_both_rows, plans_of(law, tight)(0), tight, taught_by(tight, 0))


def test_an_image_that_the_teacher_cannot_see_is_named():
    with pytest.raises(DataError, match="must hold it, such as a teacher's, is too short: raise its tokens"):
        plans_of(OneSize(PATCH), replace(VIEW, longest_side=3))(0).complete()


# rows ---------------------------------------------------------------------------------------------


def shows_the_teacher_each_image(rows: PairedRows) -> None:
    """Slot by slot the image of the student, whole, in the teacher's patches; and the student's row is its own."""
    patch = rows.teacher.pixels.patch
    for r in range(len(rows)):
        student, (teacher,) = rows[r]
        laws.stand_in_the_same_slots(student, teacher)
        for slot in used(student):
            here = teacher.segment_ids == slot + 1
            image = IMAGES[student.image_ids[slot]]
            whole = patchify(resize(image, tuple((teacher.grids[slot] * patch).tolist())), patch)
            for got, want in zip((teacher.patches[here], teacher.coords[here]), whole):
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("law", [SAME, PerImage((2, 3, 4))], ids=["one size", "mixed"])
def test_the_teacher_sees_the_images_of_the_student(law):
    rows = pairs_of(law)
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


def flickering() -> PairedRows:
    source = Flickers(IMAGES, ARRAYS.manifest.labels, ARRAYS.manifest.classes)
    source.asked = {}
    return pairs_of(SAME, source=source)


def test_an_image_is_read_once_for_both(monkeypatch):
    shows_the_teacher_each_image(flickering())
    monkeypatch.setattr("data.tasks.distill.ReadOnce", lambda source: source)
    caught(shows_the_teacher_each_image, flickering())


def smooth(seed: int, size: tuple[int, int]) -> np.ndarray:
    """A picture without fine detail, which looks alike at two sizes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), np.uint8)
    return resize(coarse, size)


PHOTOS = [smooth(i, size) for i, size in enumerate([(60, 90), (120, 70), (80, 80), (64, 128), (100, 60), (90, 90)])]
LARGE = TeacherBudget(patch=(10, 10), row_tokens=400, longest_side=64)
SMALL = (8, 8)


def augmented_pairs(augment: Augment) -> PairedRows:
    source = Arrays(PHOTOS, np.arange(len(PHOTOS), dtype=np.int32), classes=tuple("abcdef"))
    plans = plans_of(
        OneSize(SMALL), LARGE, source, seed=5, dropping=Constant(0.0), packing=Packing(600, 6), longest_side=64
    )
    return paired(plans, LARGE, Pixels(SMALL), augment)


def shows_both_the_same_picture(rows: PairedRows) -> None:
    """Crop, mirror, turn, colors, and the partner with its place: at another size, hence but for a few levels."""
    for r in range(len(rows)):
        student, (teacher,) = rows[r]
        drawn = [[image[:2] for image in side.draw(r)[1]] for side in (rows.student, rows.teacher)]
        assert drawn[0] == drawn[1]
        for slot in (used(student) + 1).tolist():
            seen = image_of(teacher, slot, LARGE.patch)
            same = resize(image_of(student, slot, SMALL), seen.shape[:2])
            assert np.median(np.abs(same.astype(float) - seen)) < 6
            assert np.abs(same.astype(float) - seen).mean() < 12


ALL = Augment(flip=True, crop=0.4, stretch=0.3, rotate=0.3, jitter=0.3)


@pytest.mark.parametrize(
    "mix", [None, Mix(share=1, cutmix=0.0), Mix(share=1, cutmix=1.0)], ids=["alone", "mixup", "CutMix"]
)
def test_both_see_the_same_crop(mix):
    shows_both_the_same_picture(augmented_pairs(replace(ALL, mix=mix)))


def test_crops_of_their_own():
    rows = augmented_pairs(ALL)
    rows.teacher.seed += 1
    caught(shows_both_the_same_picture, rows)


def test_pairs_come_in_batches_from_any_place_and_through_pickle():
    rows = pairs_of(PerImage((2, 3, 4)))
    whole, later = list(batches(rows, 1)), list(batches(pickle.loads(pickle.dumps(rows)), 1, start=1))
    assert len(later) == len(whole) - 1 >= 1
    for a, b in zip(whole[1:], later):
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_array_equal(x, y)
    assert whole[0].row.image_ids.shape == whole[0].targets.teacher_row.image_ids.shape == (1, I)


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
