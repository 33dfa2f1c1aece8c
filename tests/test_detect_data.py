"""Boxes of a row: the plan has places for them, they follow the pixels, and predictions are scored in pixels."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.boxes import COUNTS, CROWD, IGNORED, Boxes, boxes_of, corners_of, middles
from data.errors import DataError
from data.geometry import Geometry
from data.manifest import Manifest
from data.plan import EpochPlans
from data.rows import Drawn, Pixels, PlannedRows
from data.sampling.augment import Augment, Mix
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sources.digit_boxes import DigitPages
from data.sources.source import Arrays, Chosen
from data.stream import Epochs
from data.tasks import TASKS
from data.tasks.detect import BoxBudget, Detect, blind, shown
from harness.detect_presets import detect_digits
from harness.lengths import TokenLengths
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.tolerances import FLOAT64, assert_close

PATCH = (4, 4)


class Squares(Arrays):
    """Dark images with one bright rectangle each, on whole patches, and its box."""

    def __init__(self, seed: int, count: int):
        rng = np.random.default_rng(seed)
        images, boxes = [], []
        for _ in range(count):
            height, width = 4 * rng.integers(2, 9, 2)
            (top, bottom), (left, right) = (
                np.sort(rng.choice(n // 4 + 1, 2, replace=False)) * 4 for n in (height, width)
            )
            image = np.zeros((height, width, 3), np.uint8)
            image[top:bottom, left:right] = 255
            images.append(image)
            boxes.append([(left, top, right, bottom, 0)])
        super().__init__(images, np.zeros((count, 1), int), ("square",))
        object.__setattr__(self.manifest, "boxes", boxes_of(boxes))


def rows_of(source, task: Detect, augment: Augment | None = None, seed: int = 0, dropping=0.0) -> PlannedRows:
    sampling = {
        "seed": seed, "patch_size": PATCH, "resolution": Native(1.0, 1.0), "dropping": Constant(dropping),
        "packing": Packing(row_tokens=72, row_images=8), "longest_side": 64, "step_rows": 1, "budget": task.budget,
    }  # fmt: skip
    plans = EpochPlans(source, sampling)
    return PlannedRows(source, Epochs(plans, plans.blocks), 4, Pixels(PATCH), 72, seed, augment)


def task_for(manifest: Manifest, boxes: int = 16) -> Detect:
    task = Detect(boxes=boxes, detections=8)
    task.check(manifest)
    return task


# pixels and boxes -----------------------------------------------------------------------------------

CHANGES = st.builds(
    Augment, flip=st.booleans(), crop=st.sampled_from([1.0, 0.4]), quarter_turns=st.booleans(), stretch=st.just(0.0)
)


def boxes_follow_pixels(task: Detect, augment: Augment | None, seed: int) -> None:
    """The box of a rectangle is where its pixels are bright, whatever was done to the image."""
    source = Squares(seed, 12)
    batches = task.batches(rows_of(source, task, augment, seed))
    for k in range(len(batches)):
        row, targets = batches[k]
        for slot in np.unique(targets.box_segment_ids[targets.box_segment_ids > 0]).tolist():
            mine = row.segment_ids == slot
            grid = row.grids[slot - 1]
            picture = np.zeros((*grid, *PATCH))
            picture[tuple(row.coords[mine].T)] = row.patches[mine].reshape(-1, *PATCH, 3)[..., 0] / 255.0
            picture = picture.swapaxes(1, 2).reshape(grid[0] * PATCH[0], grid[1] * PATCH[1])
            (box,) = targets.boxes[targets.box_segment_ids == slot]
            left, top, right, bottom = corners_of(box.astype(float), picture.shape)
            bright = picture.sum()
            assert abs(bright - (right - left) * (bottom - top)) <= 0.06 * picture.size + 1
            inner = picture[int(np.ceil(top)) + 1 : int(bottom) - 1, int(np.ceil(left)) + 1 : int(right) - 1]
            assert inner.min(initial=1) > 0.9, (slot, box, picture)


@given(seed=seeds, augment=st.none() | CHANGES)
@settings(max_examples=12)
def test_boxes_follow_pixels(seed, augment):
    boxes_follow_pixels(task_for(Squares(seed, 12).manifest), augment, seed)


def test_boxes_that_stay_behind_are_caught(monkeypatch):
    task = task_for(Squares(0, 12).manifest)
    boxes_follow_pixels(task, Augment(flip=True), 0)
    still = lambda boxes, image: (middles(boxes.corners, tuple(image.geometry.size)), boxes.classes)
    monkeypatch.setattr("data.tasks.detect.shown", still)
    caught(boxes_follow_pixels, task, Augment(quarter_turns=True), 0)


def test_a_box_that_is_cut_off_is_gone():
    """A crop leaves less than a quarter; crowds and difficult boxes are no targets."""
    boxes = boxes_of([[(0, 0, 10, 10, 0), (30, 0, 40, 10, 1), (0, 0, 40, 10, 1, CROWD), (5, 0, 9, 9, 1, IGNORED)]])
    places, classes = shown(boxes.of(0), Drawn(0, geometry=Geometry((8, 0, 40, 10), (10, 32))))
    assert classes.tolist() == [1]
    assert_close(places, np.array([[27 / 32, 0.5, 10 / 32, 1.0]]), FLOAT64)
    places, classes = shown(boxes.of(0), Drawn(0, geometry=Geometry((7, 0, 40, 10), (10, 33))))
    assert classes.tolist() == [0, 1] and places[0, 2] == pytest.approx(3 / 33)


# the plan -------------------------------------------------------------------------------------------


@given(seed=seeds, most=st.integers(1, 40))
@settings(max_examples=15)
def test_a_row_has_places_for_its_boxes(seed, most):
    """Rows of T tokens never have more than M boxes, whatever the images; one with more than tokens or places is
    left out by name, with the reason."""
    rng = np.random.default_rng(seed)
    source = Squares(seed, 30)
    counts = rng.integers(0, 30, 30)
    lines = [[(0, 0, 4, 4, 0)] * int(n) for n in counts]
    object.__setattr__(source.manifest, "boxes", boxes_of(lines))
    task = task_for(source.manifest, most)
    tokens = (source.manifest.sizes // 4).prod(-1)
    fits = counts <= np.minimum(tokens, most)
    if not fits.any():
        return
    plan = EpochPlans(source, rows_of(source, task).epochs.plan.sampling)(0)
    for ids in plan.image_ids:
        assert counts[ids[ids >= 0]].sum() <= most
    assert {i for i, _ in plan.left_out} >= {*np.flatnonzero(~fits).tolist()}
    for image, why in plan.left_out:
        if not fits[image]:
            assert f"it has {counts[image]} boxes" in why and ("tokens" in why) == (counts[image] > tokens[image])


def test_places_for_boxes_are_chosen_from_the_data():
    config = replace(detect_digits(), rows=1)
    config = replace(config, data=replace(config.data, packing=Packing(row_tokens=80, row_images=8)))
    lengths = TokenLengths(config, Squares(0, 10).manifest)
    lengths.kept = np.full(10, 20)
    task = Detect(boxes=None, detections=5)
    fields, (note,) = task.resolve(lengths)
    assert fields == {"boxes": 8} and "4.0 boxes in the mean, an image at most 1" in note
    assert task.resolve(lengths) == ({}, [])


def test_what_has_no_boxes_is_refused():
    plain = Arrays([np.zeros((8, 8, 3), np.uint8)], np.zeros(1, int), ("a",))
    with pytest.raises(DataError, match="has no boxes: detection reads COCO"):
        Detect(boxes=4, detections=4).check(plain.manifest)
    source = Squares(0, 3)
    task = task_for(source.manifest)
    with pytest.raises(DataError, match="mix: boxes of mixed images"):
        task.batches(rows_of(source, task, Augment(mix=Mix(0.5))))
    assert TASKS["Detect"] is Detect


# scores ---------------------------------------------------------------------------------------------


def perfect(manifest: Manifest, most: int = 12) -> np.ndarray:
    """Outputs that are the truth."""
    outputs = np.zeros((len(manifest), most, 6))
    outputs[..., 5] = -1
    for i, size in enumerate(manifest.sizes):
        boxes = manifest.boxes.of(i)
        count = len(boxes.classes)
        outputs[i, :count, :4] = middles(boxes.corners.astype(float), (int(size[0]), int(size[1])))
        outputs[i, :count, 4], outputs[i, :count, 5] = 0.9, boxes.classes
    return outputs


def test_the_truth_is_perfect():
    """Also of a subset of the images in any order; boxes of another class or shifted ones are worse."""
    manifest = DigitPages("val", 20, 0).manifest
    task, outputs, ids = task_for(manifest), perfect(manifest), np.arange(20)
    assert task.score(outputs, ids, manifest) == (1.0, 0.0)
    assert (task.scores(outputs, ids, manifest) == 1).all()
    assert task.metrics(outputs, ids, manifest) == {"ap50": 1.0, "ap75": 1.0}
    order = np.array([7, 3, 11])
    assert task.score(outputs[order], order, manifest)[0] == 1.0
    assert task.score(outputs[::-1].copy(), ids, manifest)[0] < 0.2
    moved = outputs.copy()
    moved[..., 0] += 0.02
    assert 0.05 < task.score(moved, ids, manifest)[0] < 0.9
    nothing = outputs.copy()
    nothing[..., 5] = -1
    assert task.score(nothing, ids, manifest)[0] == 0.0
    assert (task.scores(nothing, ids, manifest) == 0).all()


def test_the_error_of_average_precision_is_that_of_other_images():
    """As far as the scores of other images lie apart, within a factor of two."""
    manifest = DigitPages("val", 160, 0).manifest
    task, outputs, rng = task_for(manifest), perfect(manifest), np.random.default_rng(0)
    outputs[..., :2] += rng.normal(0, 0.03, (160, 1, 2)) * (rng.random((160, 1, 1)) < 0.5)
    found = [task.score(outputs[part], part, manifest) for part in np.arange(160).reshape(10, 16)]
    scores, errors = np.array(found).T
    assert scores.std(ddof=1) / 2 < errors.mean() < 2 * scores.std(ddof=1)


def test_small_and_large_boxes_are_told_apart():
    manifest = Squares(1, 2).manifest
    lines = [[(0, 0, 8, 8, 0)], [(0, 0, 40, 40, 0)]]
    object.__setattr__(manifest, "boxes", boxes_of(lines))
    object.__setattr__(manifest, "sizes", np.array([[50, 50], [50, 50]]))
    outputs = perfect(manifest)
    outputs[0, 0, 5] = -1
    found = task_for(manifest).metrics(outputs, np.arange(2), manifest)
    assert found["ap_small"] == 0 and found["ap_medium"] == 1 and "ap_large" not in found


def test_blind_boxes_stand_side_by_side():
    """They tile an image of boxes of one size, and are scored as any detections: here all are right."""
    manifest = Squares(1, 2).manifest
    tiles = [(x, y, x + 10, y + 5, 0) for x in range(0, 40, 10) for y in range(0, 20, 5)]
    object.__setattr__(manifest, "boxes", boxes_of([tiles, tiles[:8]]))
    object.__setattr__(manifest, "sizes", np.array([[20, 40], [20, 40]]))
    found = blind(manifest, np.arange(2))
    assert (found[:, :16, 5] == 0).all() and (found[:, 16:, 5] == -1).all()
    assert 0.6 < task_for(manifest).score(found, np.arange(2), manifest)[0] < 1
    assert task_for(manifest).score(found[:1], np.arange(1), manifest)[0] == pytest.approx(1)


def test_boxes_are_selected_and_renamed():
    boxes = boxes_of([[(0, 0, 2, 3, 1)], [], [(1, 1, 4, 4, 0, COUNTS, 5), (0, 0, 1, 1, 1, CROWD)]])
    assert boxes.counts.tolist() == [1, 0, 1] and boxes.areas.tolist() == [6, 5, 1]
    assert boxes.label_sets().tolist() == [[1, -1], [-1, -1], [0, 1]]
    again = boxes.select([2, 0])
    assert again.ends.tolist() == [0, 2, 3] and again.classes.tolist() == [0, 1, 1]
    manifest = Squares(0, 3).manifest
    object.__setattr__(manifest, "boxes", boxes)
    object.__setattr__(manifest, "labels", boxes.label_sets())
    object.__setattr__(manifest, "classes", ("cat", "dog"))
    other = manifest.renamed(("dog", "bird", "cat"))
    assert other.boxes is not None and other.boxes.classes.tolist() == [0, 2, 0]
    assert other.digest != manifest.digest
    with pytest.raises(DataError, match="unknown classes"):
        manifest.renamed(("dog", "bird"))
    with pytest.raises(DataError, match="boxes end at 3"):
        Boxes(boxes.ends, *(table[:2] for table in boxes.tables[1:]))


# pages of digits ------------------------------------------------------------------------------------


def test_boxes_hold_the_ink():
    """Bright pixels lie in boxes, every side of a box that is not at the border touches ink, and digits vary in place
    and size."""
    pages = DigitPages("val", 60, 0)
    boxes, outside, total = pages.manifest.boxes, 0, 0
    assert boxes is not None
    for i in range(len(pages.manifest)):
        gray = pages.image(i)[..., 0].astype(float)
        bright = gray > (gray.min() + gray.max()) / 2
        inside = np.zeros(gray.shape, bool)
        for left, top, right, bottom in boxes.of(i).corners:
            inside[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
            assert bright[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))].any()
        outside, total = outside + (bright & ~inside).sum(), total + bright.sum()
    assert outside < 0.02 * total
    sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
    assert sides[:, 1].min() < 13 and sides[:, 1].max() > 22
    aspect = pages.manifest.sizes[:, 1] / pages.manifest.sizes[:, 0]
    assert aspect.min() < 0.2 and aspect.max() > 5
    assert 1 <= boxes.counts.min() and boxes.counts.max() <= 12


def test_pages_are_the_same_for_workers_and_share_no_glyph():
    pages = DigitPages("train", 30, 4)
    again = pickle.loads(pickle.dumps(pages))
    assert again.manifest.digest == pages.manifest.digest
    np.testing.assert_array_equal(again.image(7), pages.image(7))
    assert not {*pages.chosen.tolist()} & {*DigitPages("val", 300, 4).chosen.tolist()}


def test_the_budget_is_a_part_of_the_key():
    """Plans of another number of places are other plans; the same for equal ones, whatever the objects."""
    source = Squares(0, 6)
    key = lambda boxes: rows_of(source, task_for(source.manifest, boxes)).epochs.plan.key
    assert key(8) == key(8) != key(9)
    assert repr(BoxBudget(np.arange(2000), 8)) == "BoxBudget(8)"


def test_corners_and_middles():
    low, high = np.sort(np.random.default_rng(0).random((2, 50, 2)), 0)
    size = (37, 120)
    corners = np.concatenate([low, high], -1) * np.tile(size[::-1], 2)
    assert_close(corners_of(middles(corners, size), size), corners, FLOAT64)
    assert corners_of(np.array([0.5, 0.5, 3.0, 0.5]), (10, 20)).tolist() == [0, 2.5, 20, 7.5]


@given(seeds, st.lists(st.integers(0, 4), min_size=1, max_size=7))
def test_a_part_of_the_images_keeps_all_that_is_known_of_them(seed, chosen):
    """Of images with boxes too: names, sizes, labels and boxes go together."""
    whole = Squares(seed, 5).manifest
    for rows in (np.array(chosen), np.isin(np.arange(5), chosen)):
        part = Chosen(Squares(seed, 5), np.arange(5)[rows]).manifest
        assert part.digest == whole.select(rows).digest
        for here, there in enumerate(np.arange(5)[rows].tolist()):
            assert part.name(here) == whole.name(there)
            np.testing.assert_array_equal(part.sizes[here], whole.sizes[there])
            np.testing.assert_array_equal(part.boxes.of(here).corners, whole.boxes.of(there).corners)
        assert len(part) == len(part.boxes.ends) - 1 and part.classes == whole.classes
