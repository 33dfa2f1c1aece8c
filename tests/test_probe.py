"""The ridge probe: against scikit-learn, by its own optimality, and wrong versions that are caught."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from reference.evaluation.probe import Probe, accuracy, ridge, sample_shots
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.tolerances import CANCELLED64, assert_close

Y, D = 4, 6
L2 = np.array([1e-3, 1.0, 100.0])
counts = st.integers(1, 12)  # fewer and more images than features


def labelled(seed, count):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, Y, count).astype(np.int32)
    return rng.normal(size=(count, D)) + 3 + np.eye(Y, D)[labels], labels


def is_optimal(fit, x, labels):
    """The gradient of the penalized squares is zero, in w and in b."""
    targets = np.where(labels[:, None] == np.arange(Y), 1.0, -1.0)
    probe = fit(x, labels, Y, L2)
    for w, b, l2 in zip(*probe, L2):
        residual = x @ w + b - targets
        assert np.abs(x.T @ residual + l2 * w).max() < CANCELLED64
        assert np.abs(residual.sum(0)).max() < CANCELLED64


@given(seed=seeds, count=counts)
def test_ridge_is_optimal(seed, count):
    is_optimal(ridge, *labelled(seed, count))


@given(seed=seeds, count=counts)
def test_ridge_is_that_of_scikit_learn(seed, count):
    x, labels = labelled(seed, count)
    targets = 2 * np.eye(Y)[labels] - 1
    got = ridge(x, labels, Y, L2)
    for w, b, l2 in zip(*got, L2):
        want = Ridge(alpha=l2, solver="svd").fit(x, targets)
        assert_close(w, want.coef_.T, CANCELLED64)
        assert_close(b, want.intercept_, CANCELLED64)


def is_blind_to_the_basis(fit, x, labels):
    """Turning and shifting the features turns and shifts the probe: the scores stay."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(D, D)))[0]
    moved = x @ rotation + 10 * rng.normal(size=D)
    assert_close(scores(fit(moved, labels, Y, L2), moved), scores(fit(x, labels, Y, L2), x), CANCELLED64)


def scores(probe, x):
    return np.stack([x @ w + b for w, b in zip(*probe)])


@given(seed=seeds, count=counts)
def test_ridge_is_blind_to_the_basis(seed, count):
    is_blind_to_the_basis(ridge, *labelled(seed, count))


def penalised_bias(x, labels, classes, l2):
    """A constant feature, shrunk like the others."""
    targets = 2.0 * (labels[:, None] == np.arange(classes)) - 1
    wide = np.append(x, np.ones((len(x), 1)), -1)
    both = np.stack([np.linalg.solve(wide.T @ wide + r * np.eye(D + 1), wide.T @ targets) for r in l2])
    return Probe(both[:, :-1], both[:, -1])


def no_bias(x, labels, classes, l2):
    got = ridge(x, labels, classes, l2)
    return got._replace(b=np.zeros_like(got.b))


def zero_one_targets(x, labels, classes, l2):
    got = ridge(x, labels, classes, l2)
    return Probe(got.w / 2, (got.b + 1) / 2)


def l2_squared(x, labels, classes, l2):
    return ridge(x, labels, classes, l2**2)


def standardised(x, labels, classes, l2):
    """Each feature divided by its own deviation."""
    deviation = x.std(0) + 1e-6
    got = ridge(x / deviation, labels, classes, l2)
    return got._replace(w=got.w / deviation[:, None])


@pytest.mark.parametrize("wrong", [penalised_bias, no_bias, zero_one_targets, l2_squared, standardised])
def test_a_wrong_ridge(wrong):
    caught(is_optimal, wrong, *labelled(1, 12))


@pytest.mark.parametrize("wrong", [penalised_bias, standardised])
def test_a_probe_that_sees_the_basis(wrong):
    caught(is_blind_to_the_basis, wrong, *labelled(1, 12))


def test_accuracy_of_a_probe_by_hand():
    """Features that are the labels are read perfectly; a shrunken probe answers with the commonest class."""
    labels = np.array([0, 1, 2, 2, 2], np.int32)
    x = np.eye(3)[labels]
    probe = ridge(x, labels, 3, np.array([1e-3, 1e6]))
    assert accuracy(probe, x, labels).tolist() == [1.0, 0.6]


def test_l2_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        ridge(*labelled(0, 5), Y, np.array([1.0, 0.0]))


@given(seed=seeds, shots=st.integers(1, 3))
def test_shots_are_that_many_of_each_class(seed, shots):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(Y), [3, 4, 5, 9])).astype(np.int32)
    chosen = sample_shots(rng, labels, Y, shots)
    assert len(set(chosen.tolist())) == len(chosen)
    assert labels[chosen].tolist() == np.repeat(np.arange(Y), shots).tolist()


def test_too_few_images_for_the_shots():
    with pytest.raises(ValueError, match="a class has 1"):
        sample_shots(np.random.default_rng(0), np.array([0, 0, 1], np.int32), 2, 2)
