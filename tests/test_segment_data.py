"""Labels are cut like pixels by the same plan, and the score of a set does not depend on how it is packed."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from data.errors import BadImage, DataError
from data.plan import EpochPlans, plan_epoch
from data.rows import Pixels, PlannedRows
from data.sampling.augment import Augment, Mix
from data.sampling.dropping import Constant
from data.sampling.packing import ExactFit, FirstFit, Packing
from data.sampling.resolution import Native
from data.sources.glyph_scenes import GlyphScenes
from data.sources.memory import CachedInMemory
from data.sources.source import Chosen, mask_of, with_classes
from data.stream import Epochs
from data.tasks.segment import Segment, SegmentedRows, drawn_again
from harness.evaluation.studies.masks import compared
from reference.evaluation.confusion import class_iou, confusion, mean_iou
from reference.tasks.segment import IGNORE
from tests.support.laws import caught
from tests.support.segment import CLASSES, Painted, painted
from tests.support.strategies import seeds
from tests.support.tolerances import EXACT, assert_close

PATCH = (4, 4)


def rows_of(source: Painted, seed: int = 0, augment: Augment | None = None, drop: float = 0.0, rule=None, tokens=25):
    """All rows of an epoch at native size."""
    packing = Packing(row_tokens=tokens, row_images=6, rule=rule or ExactFit())
    how = dict(patch_size=PATCH, resolution=Native(1, 1), dropping=Constant(drop), packing=packing, longest_side=99)
    plan = plan_epoch(source.manifest.sizes, seed=seed, epoch=0, **how)
    epochs = Epochs(lambda place: plan)
    return PlannedRows(source, epochs, len(plan.image_ids), Pixels(PATCH), tokens, seed, augment)


def labels_are_cut_like_pixels(rows: SegmentedRows) -> None:
    """Where the first channel of an image is its mask, the first channel of its patches is its labels."""
    for index in range(len(rows)):
        row, targets = rows[index]
        real = row.segment_ids > 0
        np.testing.assert_array_equal(targets.labels[real], row.patches[real].reshape(-1, *PATCH, 3)[..., 0])
        assert (targets.labels[~real] == IGNORE).all()


MOVES = Augment(flip=True, quarter_turns=True)


@given(seed=seeds)
@settings(max_examples=10)
def test_labels_are_cut_like_pixels(seed):
    """Mirrored and turned by 90 degrees, with dropped tokens, in any row."""
    labels_are_cut_like_pixels(SegmentedRows(rows_of(painted(seed, 7, 4), seed, MOVES, drop=0.4), PATCH))


class Misplaced(SegmentedRows):
    """Labels of patches with their axes exchanged."""

    def labels(self, image, grid):
        return super().labels(image, grid).swapaxes(2, 3)


def test_labels_that_are_cut_otherwise_are_caught():
    caught(labels_are_cut_like_pixels, Misplaced(rows_of(painted(0, 7, 4), 0, MOVES), PATCH))


def test_a_mask_comes_back_from_its_row():
    """Cut and put together again, a mask is that of the source."""
    source = painted(1, 7, 4)
    task, rows = Segment(decoder="pixels", patch=PATCH), SegmentedRows(rows_of(source), PATCH)
    for index in range(len(rows)):
        row, targets = rows[index]
        sure = np.where(targets.labels[..., None] == np.arange(CLASSES), 9.0, 0.0).reshape(1, len(row.coords), -1)
        batch = type(row)(*(leaf[None] for leaf in row))
        for image, mask in task.masks(batch, sure, source.manifest).items():
            np.testing.assert_array_equal(mask, source.mask(image))


def matrices(source: Painted, rows: PlannedRows) -> np.ndarray:
    """The confusion matrix of each image, for outputs that follow from its pixels."""
    read, found = Segment(decoder="linear", patch=PATCH).image_outputs(source), {}
    for index in range(len(rows)):
        batch = type(rows[index])(*(leaf[None] for leaf in rows[index]))
        outputs = batch.patches[..., :CLASSES].astype(float) + np.arange(CLASSES) / 9
        ids, values = read(batch, outputs)
        found |= dict(zip(ids.tolist(), values))
    return np.stack([found[i] for i in range(len(source.manifest))])


def test_the_score_does_not_depend_on_packing():
    source = painted(2, 9, 4)
    one = matrices(source, rows_of(source))
    other = matrices(source, rows_of(source, seed=5, rule=FirstFit(), tokens=40))
    np.testing.assert_array_equal(one, other)
    assert (one.sum((1, 2)) == source.manifest.sizes.prod(-1)).all()
    task, ids = Segment(decoder="linear", patch=PATCH), np.arange(9)
    value, error = task.score(one, ids, source.manifest)
    assert_close(value, mean_iou(one.sum(0)), EXACT)
    spread = np.std([mean_iou(one[np.random.default_rng(k).integers(9, size=9)].sum(0)) for k in range(400)])
    assert 0.7 < error / spread < 1.4
    assert task.metrics(one, ids, source.manifest)["mean_iou_of_single_images"] == pytest.approx(mean_iou(one).mean())


def test_a_difference_is_that_of_the_same_images():
    """Images drawn again are the same for a model and its floor: a constant gain has hardly an error."""
    rng = np.random.default_rng(0)
    floor = rng.integers(1, 99, (30, 2, 2))
    assert compared(floor, floor, 1).endswith("+0.000 (standard error 0.000)")
    better = floor + np.eye(2, dtype=int)
    one, other = class_iou(drawn_again(better))[:, 1], class_iou(drawn_again(floor))[:, 1]
    said = compared(better, floor, 1)
    assert said.endswith(f"(standard error {(one - other).std():.3f})") and (one - other).std() < other.std() / 9


def test_classes_are_compared_at_the_pixels_of_the_photograph():
    """Of an image that was made smaller: the truth is not resized."""
    source = painted(3, 1, 8)
    shrunk = rows_of(source)
    grid = source.manifest.sizes // 8
    row, _ = shrunk.load(0, np.array([0]), grid, grid.prod(-1), np.array([PATCH]))
    batch = type(row)(*(leaf[None] for leaf in row))
    ids, (matrix,) = Segment(decoder="linear", patch=PATCH).image_outputs(source)(batch, np.zeros((1, 25, CLASSES)))
    np.testing.assert_array_equal(matrix, confusion(source.mask(0), np.zeros_like(source.mask(0)), CLASSES))


def test_an_image_whose_mask_cannot_be_read_has_no_labels():
    class Torn(Painted):
        def mask(self, index):
            raise BadImage("torn")

    images = painted(0, 3, 4)
    _, targets = SegmentedRows(rows_of(Torn(images.images, images.manifest.classes)), PATCH)[0]
    assert (targets.labels == IGNORE).all()


def test_what_has_no_labels_is_refused():
    task, source = Segment(decoder="pixels", patch=PATCH), painted(0, 3, 4)
    with pytest.raises(DataError, match="no masks"):
        task.check(replace(source.manifest, masks=False))
    with pytest.raises(DataError, match="no single class"):
        task.batches(rows_of(source, augment=Augment(mix=Mix())))
    plans = EpochPlans(source, {"dropping": Constant(0.2)})
    assert task.plans(plans, 1) is plans
    with pytest.raises(DataError, match="leaves some out"):
        Segment(decoder="linear", patch=PATCH).plans(plans, 1)


def test_masks_pass_through_wrappers():
    """Cached, with classes in another order, and some images of a source."""
    source = painted(4, 5, 4)
    cached = CachedInMemory(source, 10**6)
    np.testing.assert_array_equal(cached.mask(2), source.mask(2))
    assert cached.mask(2) is cached.mask(2)
    renamed = with_classes(source, ("d", "x", "c", "b", "a"))
    np.testing.assert_array_equal(mask_of(renamed, 1), np.array([4, 3, 2, 0], np.uint8)[source.mask(1)])
    np.testing.assert_array_equal(mask_of(Chosen(renamed, [4, 1]), 1), mask_of(renamed, 1))
    assert Chosen(source, [4, 1]).manifest.sizes.tolist() == source.manifest.sizes[[4, 1]].tolist()


# scenes ---------------------------------------------------------------------------------------------


def test_a_scene_shows_its_mask():
    """Pixels of a plain shape have its color but for noise; the classes are those that are said to occur."""
    source = GlyphScenes(40, 20).open("", "val")
    again = pickle.loads(pickle.dumps(source))
    for index in range(20):
        image, mask, (things, _) = source.image(index), source.mask(index), source.things(index)
        np.testing.assert_array_equal(image, again.image(index))
        assert image.shape[:2] == mask.shape == tuple(source.manifest.sizes[index])
        assert {*np.unique(mask).tolist()} - {0} <= {*source.manifest.labels[index].tolist()}
        top = things[-1]
        mine = mask == top.shape + 1
        if top.texture == 0 and sum(thing.shape == top.shape for thing in things) == 1 and mine.sum() > 30:
            assert np.abs(np.median(image[mine].astype(float), 0) - top.color).max() < 8
    assert {*np.unique(np.concatenate([source.mask(i).ravel() for i in range(20)])).tolist()} == set(range(7))
