"""Classes of unequal size: images repeated in an epoch, and weights of classes in the loss."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.boxes import boxes_of
from data.errors import DataError
from data.sampling.balance import ByClass
from data.sources import balanced as sources
from data.sources.balanced import balanced
from data.sources.source import Arrays, mask_of
from harness.digit_presets import large_digits
from harness.resolve import resolve
from harness.run import loading
from navit_eqx.errors import ConfigError
from navit_eqx.tasks import classify as fast
from navit_eqx.tasks.config import Classify, Contrast, InverseFrequency
from reference.sampling.balance import class_counts, class_weights, repeat_factors, repeats
from reference.tasks import classify as slow
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.tolerances import FLOAT64, assert_close

Y = 5
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=Y)
powers = st.sampled_from([0.0, 0.3, 0.5, 1.0])


def labels_of(counts) -> np.ndarray:
    """So many labels of each class, in a random order."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    return np.random.default_rng(len(labels)).permutation(labels)


def evens_out(repeats, counts, power: float, seed: int) -> None:
    """Classes are as large as their factors say, within an image; images of a class differ by one at most."""
    labels, counts = labels_of(counts), np.array(counts)
    times = repeats(labels[:, None], power, np.random.default_rng(seed))
    wanted = counts * (counts.max() / counts) ** power
    assert (np.abs(np.bincount(labels, times) - wanted) < 1 + 1e-5).all() and times.min() >= 1
    for c in range(len(counts)):
        assert np.ptp(times[labels == c]) <= 1
    if power in (0.0, 1.0):
        np.testing.assert_array_equal(np.bincount(labels, times), counts if power == 0.0 else counts.max())


@given(counts=sizes, power=powers, seed=seeds)
@example(counts=[8, 8, 8, 12], power=1.0, seed=0)
def test_classes_even_out(counts, power, seed):
    evens_out(repeats, counts, power, seed)


def test_other_repetitions_are_caught():
    counts = [40, 17, 3]

    def of_the_first(sets, power, rng):
        """What is left over goes to the first image."""
        times = np.floor(repeat_factors(sets, power)).astype(int)
        times[0] += repeats(sets, power, rng).sum() - times.sum()
        return times

    def too_small(sets, power, rng):
        return np.floor(repeat_factors(sets, power)).astype(int)

    for wrong in (of_the_first, too_small, lambda sets, power, rng: repeats(sets, power / 2, rng)):
        caught(evens_out, wrong, counts, 1.0, 0)


def test_which_images_stand_once_more_is_random():
    labels = labels_of([40, 25])[:, None]
    one, other = (repeats(labels, 1.0, np.random.default_rng(seed)) for seed in (0, 1))
    assert (one != other).any() and one.sum() == other.sum() == 80


def test_of_several_classes_the_rarest_decides():
    sets = np.array([[0, -1], [0, 1], [0, 0], [0, -1], [-1, -1]], np.int32)
    np.testing.assert_array_equal(class_counts(sets), [4, 1])
    np.testing.assert_array_equal(repeat_factors(sets, 1.0), [1, 4, 1, 1, 1])


@given(counts=sizes, power=powers)
def test_the_mean_image_weighs_one(counts, power):
    counts = np.array([*counts, 0])
    weights = class_weights(counts, power)
    assert_close((counts * weights).sum(), counts.sum(), FLOAT64)
    assert weights[-1] == 0
    even = (weights * counts.astype(float) ** power)[:-1]
    assert_close(even, np.full(len(even), even[0]), FLOAT64)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
@given(times=st.lists(st.integers(1, 4), min_size=2, max_size=Y), seed=seeds)
def test_weighted_losses_are_those_of_repeated_images(link, times, seed):
    """Of every class 12 / n images: the weighted mean is the mean over the images, each repeated n times."""
    counts = 12 // np.array(times)
    labels = labels_of(counts)
    logits = np.random.default_rng(seed).normal(size=(len(labels), Y))
    weights = np.append(class_weights(counts, 1.0), np.zeros(Y - len(counts)))
    often = repeats(labels[:, None], 1.0, np.random.default_rng(seed))

    def mean(rows: np.ndarray, weights) -> float:
        targets = slow.Targets(labels[rows], np.full(len(rows), -1), np.zeros(len(rows)))
        target = slow.soft_labels(targets, Y, 0.1)
        total, count = slow.CROSS_ENTROPIES[link](
            logits[rows], target, targets.labels >= 0, slow.image_weights(targets, weights)
        )
        return total / count

    if (counts.max() % counts == 0).all():
        every = np.arange(len(labels))
        assert_close(mean(every, tuple(weights)), mean(np.repeat(every, often), None), FLOAT64)


def test_a_mixed_image_weighs_as_its_parts():
    weights = (1.0, 3.0, 5.0)
    targets = fast.Targets(jnp.array([1, 0, -1]), jnp.array([2, -1, -1]), jnp.array([0.25, 0.0, 0.0]))
    got = np.asarray(fast.image_weights(targets, weights))[:2]
    assert_close(got, [0.75 * 3 + 0.25 * 5, 1], FLOAT64)
    np.testing.assert_array_equal(fast.image_weights(targets, None), np.ones(3))


# in a run ---------------------------------------------------------------------------------------------


def source_of(counts) -> Arrays:
    labels = labels_of(counts)
    images = [np.full((4, 4, 3), i, np.uint8) for i in range(len(labels))]
    return Arrays(images, labels, tuple(map(str, range(len(counts)))))


def test_a_repeated_image_is_an_image_of_the_plan():
    """Labels, names and pixels are those of the image; training alone sees it more often."""
    source = source_of([9, 4, 2])
    one = balanced(source, ByClass(), 0)
    np.testing.assert_array_equal(np.bincount(one.manifest.labels), [9, 9, 9])
    assert "27 images, each of 15 stands 1 to 5 times" in one.manifest.notes[-1]
    for i in range(27):
        own = int(one.image(i)[0, 0, 0])
        assert one.manifest.labels[i] == source.manifest.labels[own]
        assert one.manifest.name(i) == source.manifest.name(own)
    assert balanced(source, None, 0) is source


def test_boxes_and_masks_follow_their_image():
    class Labelled(Arrays):
        def mask(self, index: int) -> np.ndarray:
            return np.full((4, 4), index, np.uint8)

    source = Labelled([np.full((4, 4, 3), i, np.uint8) for i in range(6)], np.array([0, 0, 0, 0, 1, 1]), ("a", "b"))
    boxes = boxes_of([[(0.0, 0.0, 1.0 + i, 2.0, i // 4)] * (1 + i % 2) for i in range(6)])
    source.manifest = replace(source.manifest, boxes=boxes)
    one = balanced(source, ByClass(), 0)
    assert len(one.manifest) == 8 and one.manifest.boxes is not None
    for k in range(8):
        own = int(one.image(k)[0, 0, 0])
        assert int(mask_of(one, k)[0, 0]) == own
        for found, want in zip(one.manifest.boxes.of(k).tables, boxes.of(own).tables):
            np.testing.assert_array_equal(found, want)


def test_too_many_repetitions_are_refused(monkeypatch):
    monkeypatch.setattr(sources, "MOST", 20)
    with pytest.raises(DataError, match="balanced classes make 27 images of 15"):
        balanced(source_of([9, 4, 2]), ByClass(), 0)


def test_training_is_balanced_and_validation_is_not():
    config = large_digits()
    source = replace(config.data.source, train_images=60, val_images=40)
    config = replace(config, data=replace(config.data, source=source, balance=ByClass()))
    train, val = loading.open_sources(config)
    assert np.ptp(np.bincount(train.manifest.labels)) == 0 and len(val.manifest) == 40
    with pytest.raises(ConfigError, match="data.balance: the task Contrast has no classes"):
        loading.open_sources(replace(config, task=Contrast()))


def test_weights_come_from_the_training_images():
    config, source = large_digits(), source_of([9, 4, 2])
    config = replace(config, task=Classify(weighting=InverseFrequency()))
    prepared, task = loading.open_task(config, source.manifest)
    found, notes = resolve(replace(config, task=prepared.config), source.manifest, task)
    assert isinstance(found.task, Classify)
    assert_close(found.task.class_weights, class_weights(np.array([9, 4, 2]), 1.0), 1e-5)
    assert any("task.weighting.weights = 0.555556 to 2.5: classes of 9 to 2 images" in note for note in notes)
    given = replace(config, task=Classify(weighting=InverseFrequency(weights=(1.0, 2.0))))
    with pytest.raises(ConfigError, match="has 2 numbers, but the data have 3 classes"):
        loading.open_task(given, source.manifest)
