"""Cascades: every threshold by brute force, the front by its definition, and wrong versions that are caught."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.evaluation.cascade import cascade, pareto_front
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.tolerances import FLOAT64, assert_close


def two_predictions(seed, count=30):
    """Confidences (often equal), who is right, and costs per image."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(count) if seed % 2 else rng.integers(1, 9, count) / 8
    return confidence, rng.random(count) < 0.5, rng.random(count) < 0.7, rng.random(count), 2 + rng.random(count)


def is_every_threshold(curve, confidence, cheap_correct, better_correct, cheap_cost, better_cost):
    """Image by image, for each threshold that makes a difference."""
    got = curve(confidence, cheap_correct, better_correct, cheap_cost, better_cost)
    thresholds = [*sorted(set(confidence.tolist())), np.inf]
    assert got.threshold.tolist() == thresholds
    want = []
    for t in thresholds:
        on = [c < t for c in confidence]
        right = [b if go else a for go, a, b in zip(on, cheap_correct, better_correct)]
        cost = [a + (b if go else 0) for go, a, b in zip(on, cheap_cost, better_cost)]
        want.append([np.mean(on), np.mean(right), np.mean(cost)])
    assert_close(np.stack([got.share, got.accuracy, got.cost], -1), np.array(want), FLOAT64)


@given(seed=seeds)
def test_the_curve_is_every_threshold(seed):
    is_every_threshold(cascade, *two_predictions(seed))


@given(seed=seeds)
def test_the_ends_are_one_prediction_alone(seed):
    confidence, cheap_correct, better_correct, cheap_cost, better_cost = two_predictions(seed)
    got = cascade(confidence, cheap_correct, better_correct, cheap_cost, better_cost)
    assert (got.share[0], got.share[-1]) == (0, 1)
    assert_close(got.accuracy[[0, -1]], [cheap_correct.mean(), better_correct.mean()], FLOAT64)
    assert_close(got.cost[[0, -1]], [cheap_cost.mean(), (cheap_cost + better_cost).mean()], FLOAT64)
    assert (np.diff(got.cost) > 0).all() and (np.diff(got.share) > 0).all()


def test_a_second_look_at_the_unsure_wins():
    """Right where sure, wrong where not; the second look mends what was wrong and spoils what was right."""
    confidence = np.linspace(0.1, 0.9, 10)
    right = confidence > 0.5
    got = cascade(confidence, right, ~right, np.ones(10), np.full(10, 4.0))
    best = got.accuracy.argmax()
    assert (got.accuracy[best], got.share[best], got.cost[best]) == (1.0, 0.5, 3.0)


def reversed_threshold(confidence, cheap_correct, better_correct, cheap_cost, better_cost):
    """The sure ones go on."""
    good = cascade(confidence, cheap_correct, better_correct, cheap_cost, better_cost)
    bad = cascade(1 - confidence, cheap_correct, better_correct, cheap_cost, better_cost)
    return good._replace(accuracy=bad.accuracy, cost=bad.cost, share=bad.share)


def paid_once(confidence, cheap_correct, better_correct, cheap_cost, better_cost):
    """An image that goes on costs the better prediction alone."""
    return cascade(confidence, cheap_correct, better_correct, cheap_cost, better_cost - cheap_cost)


def ties_apart(confidence, cheap_correct, better_correct, cheap_cost, better_cost):
    """Images of equal confidence go on one after the other."""
    nudged = confidence + 1e-9 * np.arange(len(confidence))
    return cascade(nudged, cheap_correct, better_correct, cheap_cost, better_cost)


def sent_up_to(confidence, cheap_correct, better_correct, cheap_cost, better_cost):
    """≤ in the place of <."""
    good = cascade(confidence, cheap_correct, better_correct, cheap_cost, better_cost)
    return good._replace(threshold=np.append(good.threshold[0] - 1, good.threshold[:-1]))


@pytest.mark.parametrize("wrong", [reversed_threshold, paid_once, ties_apart, sent_up_to])
def test_a_wrong_cascade(wrong):
    caught(is_every_threshold, wrong, *two_predictions(4))


def is_the_front(front, cost, accuracy):
    """Nobody is dominated, and whoever is not there is dominated by, or equal to, one who is."""
    chosen = front(cost, accuracy)
    assert (np.diff(cost[chosen]) > 0).all() and (np.diff(accuracy[chosen]) > 0).all()

    def beats(a, b):
        no_worse = cost[a] <= cost[b] and accuracy[a] >= accuracy[b]
        return no_worse and (cost[a] < cost[b] or accuracy[a] > accuracy[b])

    everyone = range(len(cost))
    undominated = {b for b in everyone if not any(beats(a, b) for a in everyone)}
    assert set(chosen.tolist()) <= undominated
    points = {(cost[k], accuracy[k]) for k in chosen}
    assert points == {(cost[k], accuracy[k]) for k in undominated}


@st.composite
def points(draw):
    pairs = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12))
    return np.array(pairs, float).T


@given(points=points())
def test_the_front_is_what_nothing_beats(points):
    is_the_front(pareto_front, *points)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda cost, accuracy: np.argsort(cost),
        lambda cost, accuracy: np.array([accuracy.argmax()]),
        lambda cost, accuracy: pareto_front(cost, -accuracy),
        lambda cost, accuracy: pareto_front(-cost, accuracy)[::-1],
    ],
    ids=["everything", "the best alone", "the worst", "the dearest"],
)
def test_a_wrong_front(wrong):
    caught(is_the_front, wrong, np.array([1.0, 2, 2, 3, 4]), np.array([0.2, 0.5, 0.4, 0.1, 0.8]))
