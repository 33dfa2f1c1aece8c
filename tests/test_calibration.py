"""Calibration: exact cases, a brute-force definition, and wrong versions that are caught."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.evaluation import calibration
from reference.evaluation.calibration import (
    COLDEST,
    HOTTEST,
    expected_calibration_error,
    fit_temperature,
    reliability,
    sample_calibrated_error,
    sigmoid,
    softmax,
)
from reference.tasks.classify import sigmoid_cross_entropy, softmax_cross_entropy
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.tolerances import CANCELLED64, EXACT, FLOAT64, GRADIENT64, assert_close

links = pytest.mark.parametrize("link", [softmax, sigmoid])


def truth_of(labels, classes):
    """True at the label of each image."""
    return np.equal.outer(labels, np.arange(classes))


def onehot_loss(cross_entropy, logits, truth):
    return cross_entropy(logits, truth.astype(float), np.ones(len(truth), bool))


LOSSES = {softmax: partial(onehot_loss, softmax_cross_entropy), sigmoid: partial(onehot_loss, sigmoid_cross_entropy)}


def sure_and_right(seed, count=60):
    rng = np.random.default_rng(seed)
    confidence = rng.choice([rng.random(count), rng.integers(0, 31, count) / 30])
    return confidence, rng.random(count) < 0.6


def is_the_definition(error, confidence, correct):
    """Each bin by a loop over all images."""
    total = 0.0
    for b in range(30):
        inside = [i for i, c in enumerate(confidence) if b <= c * 30 < b + 1 or (b == 29 and c == 1)]
        total += abs(sum(float(correct[i]) - confidence[i] for i in inside))
    assert abs(error(confidence, correct) - total / len(confidence)) < EXACT


@given(seed=seeds)
def test_ece_is_its_definition(seed):
    is_the_definition(expected_calibration_error, *sure_and_right(seed))


@given(seed=seeds)
def test_ece_is_at_least_the_gap_of_the_means(seed):
    confidence, correct = sure_and_right(seed)
    gap = abs(correct.mean() - confidence.mean())
    error = expected_calibration_error(confidence, correct)
    assert gap - EXACT <= error <= 1
    assert_close(expected_calibration_error(confidence[::-1], correct[::-1]), error, FLOAT64)
    assert_close(expected_calibration_error(confidence, correct, bins=1), gap, CANCELLED64)


def as_sure_as_right(shift=0.0):
    """Ten images at each of ten confidences, right exactly as often as confidence + shift says."""
    tenths = np.repeat(np.arange(1, 11), 10)
    return tenths / 10 - shift, np.tile(np.arange(10), 10) < tenths


def test_ece_of_a_calibrated_model_is_zero():
    assert expected_calibration_error(*as_sure_as_right()) < EXACT
    assert_close(expected_calibration_error(*as_sure_as_right(0.07)), 0.07, FLOAT64)


def by_index(confidence, correct):
    """Bins of consecutive images."""
    parts = zip(np.array_split(confidence, 30), np.array_split(correct, 30))
    return sum(abs((r - c).sum()) for c, r in parts) / len(confidence)


def signed(confidence, correct):
    return abs((correct - confidence).mean())


def mean_of_bins(confidence, correct):
    count, mean, accuracy = reliability(confidence, correct)
    return float(np.abs(accuracy - mean)[count > 0].mean())


def squared(confidence, correct):
    count, mean, accuracy = reliability(confidence, correct)
    return float(np.sqrt((count * (accuracy - mean) ** 2).sum() / count.sum()))


@pytest.mark.parametrize("wrong", [by_index, signed, mean_of_bins, squared])
def test_a_wrong_ece(wrong):
    caught(is_the_definition, wrong, *sure_and_right(3))


def test_chance_alone_makes_an_error():
    rng = np.random.default_rng(0)
    few, many = (sample_calibrated_error(rng, rng.random(n)) for n in (100, 10_000))
    assert 0 < many < few / 5
    confidence = rng.random(4000)
    seen = expected_calibration_error(confidence, rng.random(4000) < confidence)
    assert 0.7 < seen / sample_calibrated_error(rng, confidence) < 1.4


def exactly_calibrated():
    """Two classes with p = 0.1 … 0.9, ten images of each p, labels in that proportion: temperature 1 fits best."""
    p = np.repeat(np.arange(1, 10) / 10, 10)
    return p, truth_of((np.tile(np.arange(10), 9) >= np.round(10 * p)).astype(np.int32), 2)


@links
@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_the_temperature_is_recovered(link, scale):
    p, truth = exactly_calibrated()
    odds = np.log(p / (1 - p))
    logits = np.stack([odds, -odds if link is sigmoid else 0 * odds], -1)
    assert_close(fit_temperature(scale * logits, truth, link), scale, CANCELLED64)


def noisy(seed, scale):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(40, 5))
    labels = np.where(rng.random(40) < 0.6, logits.argmax(-1), rng.integers(0, 5, 40)).astype(np.int32)
    return logits, truth_of(labels, 5)


def is_the_best_temperature(fit, link, logits, truth):
    def loss(temperature):
        return LOSSES[link](logits / temperature, truth)[0]

    best = fit(logits, truth, link)
    assert COLDEST <= best <= HOTTEST
    for factor in (0.3, 0.9, 0.999, 1.001, 1.1, 3.0):
        other = float(np.clip(factor * best, COLDEST, HOTTEST))
        assert loss(best) <= loss(other) * (1 + EXACT)


@links
@given(seed=seeds, scale=st.sampled_from([0.1, 1.0, 20.0]))
def test_no_temperature_is_better(link, seed, scale):
    is_the_best_temperature(fit_temperature, link, *noisy(seed, scale))


def test_a_wrong_temperature():
    logits, truth = noisy(0, 5.0)
    for wrong in (
        lambda *args: 1 / fit_temperature(*args),
        lambda logits, truth, link: fit_temperature(logits, truth, sigmoid),
        lambda logits, truth, link: fit_temperature(logits, np.roll(truth, 1, axis=0), link),
        lambda *args: 1.0,
    ):
        caught(is_the_best_temperature, wrong, softmax, logits, truth)


@given(seed=seeds, scale=st.sampled_from([0.1, 1.0, 20.0]))
def test_no_temperature_is_better_for_sets_of_labels(seed, scale):
    """Images with several classes, or none: every class is a decision by itself."""
    logits, _ = noisy(seed, scale)
    truth = np.random.default_rng(seed).random(logits.shape) < 1 / (1 + np.exp(-logits / scale))
    is_the_best_temperature(fit_temperature, sigmoid, logits, truth)


@links
@given(seed=seeds, temperature=st.floats(0.3, 20))
def test_a_temperature_changes_how_sure_and_not_which(link, seed, temperature):
    """Far from saturation, where float64 can tell the probabilities apart."""
    logits, _ = noisy(seed, 1.0)
    p, tempered = link(logits), link(logits / temperature)
    np.testing.assert_array_equal(p.argmax(-1), tempered.argmax(-1))
    if link is softmax:
        assert ((tempered.max(-1) <= p.max(-1) + EXACT) == (temperature >= 1)).all()


def test_ends_and_refusals():
    always_right = np.eye(4) * 2.0
    truth = np.eye(4, dtype=bool)
    assert_close(fit_temperature(always_right, truth), COLDEST, GRADIENT64)
    assert_close(fit_temperature(-always_right, truth), HOTTEST, GRADIENT64)
    with pytest.raises(ValueError, match="without images"):
        fit_temperature(np.zeros((0, 4)), np.zeros((0, 4), bool))


def test_extreme_logits_stay_finite():
    logits = np.array([[1e4, -1e4, 0.0]])
    for link in (calibration.softmax, calibration.sigmoid):
        assert np.isfinite(link(logits)).all() and link(logits).max() == 1
