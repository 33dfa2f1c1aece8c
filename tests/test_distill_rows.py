"""Rows for distillation: the teacher reads the same pictures in the same slots as the student."""

import pickle
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import BadImage, DataError
from data.pipeline import batches
from data.plan import plan_epoch
from data.rows import Pixels
from data.sampling.augment import Augment, Mix
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.patch_size import OneSize, PerImage, PerStep
from data.sampling.resolution import Sides
from data.sources.decode import resize
from data.sources.source import Arrays
from data.tasks.distill import PairedRows, TeacherBudget, plan_for_teacher
from harness.evaluation.pictures import image_of
from reference.patches import patchify
from tests.support import laws
from tests.support.distill import SAME, VIEW, paired, pairs_of, plans_of, taught_by, used
from tests.support.flexi import ARRAYS, IMAGES, sees_each_image_at_its_size
from tests.support.laws import caught
from tests.support.plans import holds_every_image_once, sizes_of
from tests.support.strategies import PATCH, I, seeds
from tests.support.tolerances import FLOAT16, FLOAT64

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
    monkeypatch.setattr(TeacherBudget, "tokens", lambda self, images, kept, grids_at, row_tokens: kept)
    caught(fits_both_rows, plans_of(law, tight)(0), tight, taught_by(tight, 0))


def test_an_image_that_the_teacher_cannot_see_is_named():
    with pytest.raises(DataError, match="the row of the teacher is too short for it: raise task.row-tokens"):
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
