"""Losses: both sides agree, and a mean is taken once, over images."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navit_eqx.tasks import classify as fast
from navit_eqx.tasks import loss_sum
from navit_eqx.tasks.config import Sigmoid, Softmax
from reference.tasks import classify as slow
from tests.support import laws
from tests.support.strategies import I, labelled, seeds
from tests.support.tolerances import FLOAT64, assert_close

B, Y = 3, 7
KINDS = {"softmax": Softmax(0.0), "smoothed": Softmax(0.1), "sigmoid": Sigmoid()}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
labels = st.lists(st.integers(-1, Y - 1), min_size=B * I, max_size=B * I).map(
    lambda ids: np.array(ids, np.int32).reshape(B, I)
)
total = eqx.filter_jit(loss_sum)


def reference_sum(kind, logits, labels, partners, weights):
    smoothing = getattr(kind, "smoothing", 0.0)
    target = slow.targets(labels, partners, weights, Y, smoothing)
    loss = slow.sigmoid_cross_entropy if isinstance(kind, Sigmoid) else slow.softmax_cross_entropy
    return loss(logits, target, labels)


@kinds
@given(labels=labels, partners=labels, seed=seeds, scale=st.sampled_from([1.0, 1e3]))
def test_agrees_row_by_row(kind, labels, partners, seed, scale):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(B, I, Y))
    weights = np.where(partners >= 0, rng.random((B, I)), 0.0)
    want = np.sum([reference_sum(kind, *row) for row in zip(logits, labels, partners, weights)], axis=0)
    got = total(kind, jnp.asarray(logits), labelled(labels, partners, weights))
    assert int(got[1]) == int(want[1])
    assert_close(got[0], want[0], FLOAT64)


@kinds
@given(labels=labels, seed=seeds)
def test_is_divided_once(kind, labels, seed):
    logits = np.random.default_rng(seed).normal(size=(B, I, Y))

    def mean(logits, labels):
        loss, count = total(kind, jnp.asarray(logits), labelled(labels))
        return float(loss) / max(int(count), 1)

    laws.is_divided_once(mean, logits, labels)


@kinds
def test_nothing_to_learn_from_gives_zero(kind):
    logits, none = jnp.ones((B, I, Y)), jnp.full((B, I), -1)
    loss, count = total(kind, logits, labelled(none))
    assert (float(loss), int(count)) == (0.0, 0)
    gradient = jax.grad(lambda x: loss_sum(kind, x, labelled(none))[0])(logits)
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_equal_logits_cost_log_of_classes():
    loss, _ = reference_sum(Softmax(), np.zeros((1, Y)), *one_label(2))
    assert_close(loss, np.log(Y), FLOAT64)


def one_label(label, partner=-1, weight=0.0):
    return np.array([label]), np.array([partner]), np.array([weight])


@kinds
@given(seed=seeds, weight=st.floats(0, 1))
def test_a_mixed_label_costs_the_mean_of_both(kind, seed, weight):
    """Losses are linear in the target; and mixing an image with its own class changes nothing."""
    logits = np.random.default_rng(seed).normal(size=(1, Y))

    def loss(*labels):
        return reference_sum(kind, logits, *one_label(*labels))[0]

    assert_close(loss(2, 5, weight), (1 - weight) * loss(2) + weight * loss(5), FLOAT64)
    assert_close(loss(2, 2, weight), loss(2), FLOAT64)
    assert_close(loss(2, 5, weight), loss(5, 2, 1 - weight), FLOAT64)


def test_correct_counts_real_images():
    logits = jnp.asarray(np.eye(4)[None])
    got = fast.correct(logits, jnp.asarray([[0, 1, 3, -1]]))
    assert int(got) == 2
