"""Targets say what the picture in their slot shows, whatever the packing; scores are those of scikit-learn."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, top_k_accuracy_score

from data.errors import BadImage, DataError
from data.manifest import Manifest
from data.plan import plan_epoch
from data.rows import Drawn, Pixels, PlannedRows
from data.sampling.augment import Augment, Mix
from data.sampling.dropping import Constant
from data.sampling.packing import BestFit, DropSurplus, ExactFit, FirstFit, Packing
from data.sampling.resolution import Native
from data.sources.source import Arrays
from data.stream import Epochs
from data.tasks import TASKS, classify, multi_label
from data.tasks.classify import Classify
from data.tasks.multi_label import MultiLabel
from reference.evaluation import metrics
from reference.rows import Batch
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.tolerances import FLOAT64, assert_close

COUNT, PATCH, EPOCHS = 12, (4, 4), 2
HALF_A_LEVEL = 0.5 + 1e-3  # pixels are whole numbers
CLASSES = tuple(map(str, range(COUNT)))
_rng = np.random.default_rng(5)
COLORS = 20 * np.arange(COUNT) + 10
IMAGES = [np.full((*_rng.integers(4, 25, 2), 3), color, np.uint8) for color in COLORS]
LABELS = _rng.permutation(COUNT).astype(np.int32)
SETS = np.stack([LABELS, np.where(np.arange(COUNT) % 3, (LABELS + 5) % COUNT, -1)], -1).astype(np.int32)


# targets ------------------------------------------------------------------------------------------------------


@dataclass
class Spoilt:
    """Images of one color each, of which some cannot be read."""

    manifest: Manifest
    bad: frozenset[int]

    def image(self, index: int, shrink: int = 1) -> np.ndarray:
        if index in self.bad:
            raise BadImage("spoilt")
        return IMAGES[index]


def rows_of(labels: np.ndarray, packing: Packing, bad: frozenset[int] = frozenset()) -> PlannedRows:
    """Epochs in which most images are mixed with another one, by a blend or a box; none loses a token."""
    source = Spoilt(Arrays(IMAGES, labels, CLASSES).manifest, bad)
    plans = [
        plan_epoch(
            source.manifest.sizes, seed=3, epoch=epoch, patch_size=PATCH, resolution=Native(), dropping=Constant(0.0),
            packing=packing, longest_side=40,
        )
        for epoch in range(EPOCHS)
    ]  # fmt: skip
    count = sum(len(plan.image_ids) for plan in plans)
    law = Augment(flip=True, mix=Mix(0.7, 0.8, 0.5))
    return PlannedRows(source, Epochs(plans.__getitem__), count, Pixels(PATCH), packing.shape[0], 3, law)


def in_slot(targets, slot: int) -> tuple[tuple[int, ...], tuple[int, ...], float]:
    """Classes of an image and of its partner, and the partner's share; none where a slot holds −1."""
    own, partner, weight = (leaf[slot] for leaf in targets)
    return (*(tuple(int(c) for c in np.atleast_1d(x) if c >= 0) for x in (own, partner)), float(weight))


def say_what_is_shown(batch: Batch, labels: np.ndarray) -> None:
    """The mean color of an image's tokens is that of its own class and of its partner's, by their shares; slots
    without tokens have no class."""
    row, targets = batch
    color = {tuple(int(c) for c in np.atleast_1d(x) if c >= 0): COLORS[i] for i, x in enumerate(labels)}
    for slot in range(len(row.image_ids)):
        (own, partner, weight), here = in_slot(targets, slot), row.segment_ids == slot + 1
        if not here.any():
            assert (own, partner, weight) == ((), (), 0.0)
            continue
        assert own == tuple(int(c) for c in np.atleast_1d(labels[row.image_ids[slot]]) if c >= 0)
        assert 0 <= weight <= 1 and (partner != ()) >= (weight > 0)
        want = (1 - weight) * color[own] + weight * color.get(partner, 0)
        assert abs(row.patches[here].mean() - want) <= HALF_A_LEVEL


def every_row(rows: PlannedRows, task, labels: np.ndarray) -> None:
    batches = task.batches(rows)
    assert len(batches) == len(rows)
    for g in range(len(rows)):
        say_what_is_shown(batches[g], labels)


rules = st.sampled_from([ExactFit(6), FirstFit(3), FirstFit(3, 2), BestFit(4), DropSurplus(FirstFit(3))])
packings = st.builds(Packing, st.integers(36, 120), st.integers(1, 6), rules)
spoilt = st.frozensets(st.integers(0, COUNT - 1))


@given(packing=packings, bad=spoilt)
@example(Packing(60, 4), frozenset(range(COUNT)))
def test_labels_stand_in_the_slots_of_their_images(packing, bad):
    every_row(rows_of(LABELS, packing, bad), Classify(), LABELS)


@given(packing=packings, bad=spoilt)
def test_label_sets_stand_in_the_slots_of_their_images(packing, bad):
    every_row(rows_of(SETS, packing, bad), MultiLabel(), SETS)


def test_a_label_is_a_set_of_one():
    rows = rows_of(LABELS, Packing(90, 5))
    one, several = (task.batches(rows) for task in (Classify(), MultiLabel()))
    for g in range(len(rows)):
        labels, partners, weights = one[g].targets
        assert several[g].targets.label_sets.shape == (5, 1)
        for mine, theirs in zip((labels[:, None], partners[:, None], weights), several[g].targets):
            np.testing.assert_array_equal(theirs, mine)


@given(first=packings, second=packings)
def test_packing_changes_no_target(first, second):
    """An image of an epoch has the same targets whatever row it stands in."""
    found = []
    for packing in (first, second):
        rows, task = rows_of(SETS, packing), MultiLabel()
        of_image = {}
        for g in range(len(rows)):
            row, targets = task.batches(rows)[g]
            epoch = rows.epochs.locate(g)[0]
            of_image |= {(epoch, int(i)): in_slot(targets, s) for s, i in enumerate(row.image_ids) if i >= 0}
        found.append(of_image)
    both = found[0].keys() & found[1].keys()
    assert both and all(found[0][k] == found[1][k] for k in both)


def test_pictures_of_the_tests_are_mixed():
    drawn = [d for g in range(4) for d in rows_of(LABELS, Packing(90, 5)).draw(g)[1]]
    assert any(d.partner_id >= 0 and d.weight > 0.2 for d in drawn) and any(d.partner_id < 0 for d in drawn)


def one_slot_late(values, slots, empty, dtype):
    return np.roll(in_slots(values, slots, empty, dtype), 1, axis=0)


def full_of_the_last(values, slots, empty, dtype):
    """Empty slots repeat the last image."""
    table = in_slots(values, slots, empty, dtype)
    table[len(values) :] = values[-1] if len(values) else empty
    return table


in_slots = classify.in_slots


@pytest.mark.parametrize("wrong", [one_slot_late, full_of_the_last])
@pytest.mark.parametrize("task, labels", [(Classify(), LABELS), (MultiLabel(), SETS)], ids=["labels", "sets"])
def test_targets_in_other_slots_are_caught(monkeypatch, wrong, task, labels):
    for module in (classify, multi_label):
        monkeypatch.setattr(module, "in_slots", wrong)
    caught(every_row, rows_of(labels, Packing(90, 5)), task, labels)


WRONG_DRAWS = {
    "shares exchanged": lambda d: d._replace(weight=1 - d.weight if d.partner_id >= 0 else 0.0),
    "partners forgotten": lambda d: d._replace(partner_id=-1),
    "partners of another": lambda d: d._replace(partner_id=(d.partner_id + 1) % COUNT if d.partner_id >= 0 else -1),
    "the image of its partner": lambda d: Drawn(max(d.partner_id, 0), d.image_id, d.weight),
}


@pytest.mark.parametrize("wrong", WRONG_DRAWS.values(), ids=WRONG_DRAWS)
@pytest.mark.parametrize("task, labels", [(Classify(), LABELS), (MultiLabel(), SETS)], ids=["labels", "sets"])
def test_targets_of_another_picture_are_caught(monkeypatch, wrong, task, labels):
    rows = rows_of(labels, Packing(90, 5))
    honest = task.targets
    monkeypatch.setattr(task, "targets", lambda drawn, *others: honest([wrong(d) for d in drawn], *others))
    caught(every_row, rows, task, labels)


def test_unreadable_images_in_the_way_are_caught(monkeypatch):
    """Targets by the plan alone, as if every image could be read."""
    rows = rows_of(LABELS, Packing(90, 5), frozenset(range(0, COUNT, 2)))
    honest = PlannedRows.draw

    def planned(self, index):
        row, _ = honest(self, index)
        _, plan, r = self.epochs.locate(index)
        return row, [Drawn(int(i)) for i in plan.image_ids[r] if i >= 0]

    monkeypatch.setattr(PlannedRows, "draw", planned)
    caught(every_row, rows, Classify(), LABELS)


def test_label_sets_are_for_the_task_that_learns_them():
    sets, labels = (Arrays(IMAGES, x, CLASSES).manifest for x in (SETS, LABELS))
    with pytest.raises(DataError, match="arrays in memory has a set of labels per image: use --task multilabel"):
        Classify().check(sets)
    Classify().check(labels)
    MultiLabel().check(sets)
    MultiLabel().check(labels)
    assert TASKS.keys() == {"Classify", "MultiLabel", "Distill", "Embed", "Contrast", "ZeroShot", "Segment", "Detect"}


# scores -------------------------------------------------------------------------------------------------------


def manifest_of(labels: np.ndarray, classes: int) -> Manifest:
    count = len(labels)
    names = tuple(map(str, range(classes)))
    return Manifest(np.array([b"x"] * count), np.ones((count, 2), np.int32), labels, names, "memory")


def drawn(seed: int, classes: int, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs, with equal ones among them or not; labels of all images; and those that were judged."""
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(40, classes))
    labels = rng.integers(0, classes, 60).astype(np.int32)
    return np.round(outputs) if ties else outputs, labels, np.sort(rng.permutation(60)[:40])


@given(seed=seeds, classes=st.integers(2, 12))
def test_accuracy_and_top_5_are_those_of_scikit_learn(seed, classes):
    outputs, labels, ids = drawn(seed, classes, ties=False)
    manifest, task = manifest_of(labels, classes), Classify()
    scores = task.scores(outputs, ids, manifest)
    assert task.metric == "accuracy"
    assert_close(scores.mean(), accuracy_score(labels[ids], outputs.argmax(-1)), FLOAT64)
    np.testing.assert_array_equal(metrics.correct(outputs, labels[ids]), scores > 0)
    if classes <= 5:
        assert task.metrics(outputs, ids, manifest) == {}
    else:
        want = top_k_accuracy_score(labels[ids], outputs, k=5, labels=range(classes))
        assert_close(task.metrics(outputs, ids, manifest)["top_5"], want, FLOAT64)
    for k in range(1, classes) if classes > 2 else ():
        want = top_k_accuracy_score(labels[ids], outputs, k=k, labels=range(classes))
        assert_close(metrics.in_top(outputs, labels[ids], k).mean(), want, FLOAT64)
    np.testing.assert_array_equal(task.truth(ids, manifest), np.eye(classes, dtype=bool)[labels[ids]])


def test_of_no_image_nothing_is_measured():
    assert Classify().metrics(np.zeros((0, 9)), np.zeros(0, np.int64), manifest_of(LABELS, COUNT)) == {}


def label_sets(seed: int, classes: int) -> np.ndarray:
    """For each of 60 images up to four classes, each once."""
    rng = np.random.default_rng(seed)
    sets = np.full((60, 4), -1, np.int32)
    for i in range(60):
        own = rng.permutation(classes)[: rng.integers(0, 5)]
        sets[i, : len(own)] = own
    return sets


def has_the_precision_of_scikit_learn(average_precision, seed: int, ties: bool) -> None:
    """Of one class: with equal scores, and whatever the order of the images."""
    rng = np.random.default_rng(seed)
    scores, truth = rng.normal(size=30), rng.random(30) < 0.4
    scores = np.round(scores) if ties else scores
    truth[rng.integers(30)] = True
    assert_close(average_precision(scores, truth), average_precision_score(truth, scores), FLOAT64)


@given(seed=seeds, ties=st.booleans())
def test_average_precision_is_that_of_scikit_learn(seed, ties):
    has_the_precision_of_scikit_learn(metrics.average_precision, seed, ties)


def ties_in_order(scores: np.ndarray, truth: np.ndarray) -> float:
    """Equal scores one after the other, as they come."""
    hits = truth[np.argsort(-scores, kind="stable")]
    return float((hits * np.cumsum(hits) / np.arange(1, len(hits) + 1)).sum() / hits.sum())


def lowest_first(scores: np.ndarray, truth: np.ndarray) -> float:
    return metrics.average_precision(-scores, truth)


def of_all_images(scores: np.ndarray, truth: np.ndarray) -> float:
    """Divided by the number of images."""
    return metrics.average_precision(scores, truth) * truth.sum() / len(truth)


@pytest.mark.parametrize("wrong", [ties_in_order, lowest_first, of_all_images])
def test_another_average_precision_is_caught(wrong):
    def always() -> None:
        for seed in range(20):
            has_the_precision_of_scikit_learn(wrong, seed, ties=True)

    caught(always)


@given(seed=seeds, classes=st.integers(4, 9), ties=st.booleans())
def test_scores_of_label_sets_are_those_of_scikit_learn(seed, classes, ties):
    """Mean average precision over the classes that occur; the share of images whose highest class is one of theirs."""
    outputs, _, ids = drawn(seed, classes, ties)
    manifest, task = manifest_of(label_sets(seed, classes), classes), MultiLabel()
    truth = np.array([[c in manifest.labels[i] for c in range(classes)] for i in ids])
    np.testing.assert_array_equal(task.truth(ids, manifest), truth)
    occur = [c for c in range(classes) if truth[:, c].any()]
    want = np.mean([average_precision_score(truth[:, c], outputs[:, c]) for c in occur])
    assert_close(task.metrics(outputs, ids, manifest)["mean_average_precision"], want, FLOAT64)
    assert_close(metrics.mean_average_precision(outputs[:, occur], truth[:, occur]), want, FLOAT64)
    macro = average_precision_score(truth[:, occur], outputs[:, occur], average="macro")
    assert_close(want, macro, FLOAT64)
    scores = task.scores(outputs, ids, manifest)
    assert task.metric == "precision_at_1"
    np.testing.assert_array_equal(scores, truth[np.arange(len(ids)), outputs.argmax(-1)])
    np.testing.assert_array_equal(metrics.precision_at_1(outputs, truth), scores > 0)


def test_a_class_without_images_has_no_precision():
    scores, truth = np.ones((3, 2)), np.zeros((3, 2), bool)
    assert np.isnan(metrics.average_precision(scores[:, 0], truth[:, 0]))
    assert np.isnan(metrics.mean_average_precision(scores, truth))
    truth[1, 1] = True
    assert_close(metrics.mean_average_precision(scores, truth), 1 / 3, FLOAT64)
