"""Metrics of segmentation: those of scikit-learn, whatever the batches, and the mean over classes, not over images."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import confusion_matrix, jaccard_score

from reference.evaluation.confusion import IGNORE, class_iou, confusion, mean_iou, pixel_accuracy
from reference.evaluation.threshold import luma, otsu, smaller_side
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.tolerances import EXACT, assert_close

CLASSES = 4


def masks(seed: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """True and predicted masks of images of any size; some pixels have no class, some classes occur in neither."""
    rng = np.random.default_rng(seed)
    used = rng.permutation(CLASSES)[: rng.integers(2, CLASSES + 1)]
    found = []
    for _ in range(count):
        size = rng.integers(1, 9, 2)
        some = rng.permutation(used)[: rng.integers(1, CLASSES + 1)]
        truth = rng.choice(some, size).astype(np.uint8)
        truth[rng.random(size) < 0.2] = IGNORE
        found.append((truth, rng.choice(used, size).astype(np.uint8)))
    return found


@given(seed=seeds, count=st.integers(1, 5))
@settings(max_examples=10)
def test_is_that_of_scikit_learn(seed, count):
    """All labeled pixels of a set together."""
    pairs = masks(seed, count)
    together = sum(confusion(truth, predicted, CLASSES) for truth, predicted in pairs)
    truth, predicted = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
    truth, predicted = truth[truth != IGNORE], predicted[truth != IGNORE]
    if not len(truth):
        assert together.sum() == 0 and np.isnan(mean_iou(together)) and np.isnan(pixel_accuracy(together))
        return
    np.testing.assert_array_equal(together, confusion_matrix(truth, predicted, labels=range(CLASSES)))
    used = np.unique(np.concatenate([truth, predicted]))
    want = jaccard_score(truth, predicted, labels=used, average=None)
    assert_close(class_iou(together)[used], want, EXACT)
    assert np.isnan(np.delete(class_iou(together), used)).all()
    assert_close(mean_iou(together), want.mean(), EXACT)
    assert_close(pixel_accuracy(together), (truth == predicted).mean(), EXACT)


def does_not_see_batches(score, pairs) -> None:
    """The score of a set is the same however its images are spread over batches."""
    whole = score([pairs])
    for cut in range(1, len(pairs)):
        assert_close(score([pairs[:cut], pairs[cut:]]), whole, EXACT)


def of_sums(batches) -> float:
    return float(mean_iou(sum(confusion(*pair, CLASSES) for batch in batches for pair in batch)))


def mean_of_batches(batches) -> float:
    """The usual mistake."""
    return float(np.mean([mean_iou(sum(confusion(*pair, CLASSES) for pair in batch)) for batch in batches]))


def test_batches_do_not_matter():
    pairs = masks(3, 5)
    does_not_see_batches(of_sums, pairs)
    caught(does_not_see_batches, mean_of_batches, pairs)


def test_a_stack_of_matrices_has_a_score_each():
    stack = np.stack([confusion(*pair, CLASSES) for pair in masks(1, 4)])
    for k, matrix in enumerate(stack):
        for metric in (class_iou, mean_iou, pixel_accuracy):
            np.testing.assert_array_equal(metric(stack)[k], metric(matrix))


# masks by a threshold -------------------------------------------------------------------------------


def parts_best(threshold, gray: np.ndarray) -> None:
    """No other level leaves less variance within both parts; of equal ones it is the first."""

    def within(k: int) -> float:
        parts = [part for part in (gray[gray <= k], gray[gray > k]) if part.size]
        return sum(float(part.size * part.astype(float).var()) for part in parts)

    every = [within(k) for k in range(256)]
    found = threshold(np.bincount(gray.ravel(), minlength=256))
    assert every[found] <= min(every) + 1e-6 * gray.size and not np.isclose(every[:found], every[found]).any()


@given(seed=seeds, count=st.integers(2, 60), levels=st.integers(1, 5))
@settings(max_examples=10)
def test_otsu_parts_an_image_best(seed, count, levels):
    rng = np.random.default_rng(seed)
    gray = rng.choice(rng.integers(0, 256, levels), count).astype(np.uint8)
    if gray.min() < gray.max():
        parts_best(otsu, gray)
        caught(parts_best, lambda counts: otsu(counts) + 1, gray)


@given(seed=seeds, size=st.tuples(st.integers(1, 7), st.integers(1, 7)))
@settings(max_examples=10)
def test_the_smaller_side_is_the_same_in_the_negative(seed, size):
    """It has at most half of the pixels, and holds the same ones where dark and bright are exchanged."""
    gray = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    mask = smaller_side(gray)
    assert 2 * mask.sum() <= mask.size
    if 2 * mask.sum() < mask.size:
        np.testing.assert_array_equal(smaller_side(255 - gray), mask)


@given(seed=seeds)
@settings(max_examples=5)
def test_brightness_is_that_of_pillow(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8)
    np.testing.assert_array_equal(luma(pixels), np.asarray(Image.fromarray(pixels).convert("L")))
