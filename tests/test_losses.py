"""Losses: both sides agree, and a mean is taken once, over images."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navit_eqx import losses as fast
from navit_eqx.config import Sigmoid, Softmax
from navit_eqx.train import loss_sum
from reference import losses as slow
from tests import laws
from tests.strategies import I, seeds
from tests.tolerances import FLOAT64, assert_close

B, Y = 3, 7
KINDS = {"softmax": Softmax(0.0), "smoothed": Softmax(0.1), "sigmoid": Sigmoid()}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
labels = st.lists(st.integers(-1, Y - 1), min_size=B * I, max_size=B * I).map(
    lambda ids: np.array(ids, np.int32).reshape(B, I)
)
total = eqx.filter_jit(loss_sum)


def reference_sum(kind, logits, labels):
    if isinstance(kind, Sigmoid):
        return slow.sigmoid_cross_entropy(logits, labels)
    return slow.softmax_cross_entropy(logits, labels, kind.smoothing)


@kinds
@given(labels=labels, seed=seeds, scale=st.sampled_from([1.0, 1e3]))
def test_agrees_row_by_row(kind, labels, seed, scale):
    logits = scale * np.random.default_rng(seed).normal(size=(B, I, Y))
    want = np.sum([reference_sum(kind, *row) for row in zip(logits, labels)], axis=0)
    got = total(kind, jnp.asarray(logits), jnp.asarray(labels))
    assert int(got[1]) == int(want[1])
    assert_close(got[0], want[0], FLOAT64)


@kinds
@given(labels=labels, seed=seeds)
def test_is_divided_once(kind, labels, seed):
    logits = np.random.default_rng(seed).normal(size=(B, I, Y))

    def mean(logits, labels):
        loss, count = loss_sum(kind, jnp.asarray(logits), jnp.asarray(labels))
        return float(loss) / max(int(count), 1)

    laws.is_divided_once(mean, logits, labels)


@kinds
def test_nothing_to_learn_from_gives_zero(kind):
    logits, none = jnp.ones((B, I, Y)), jnp.full((B, I), -1)
    loss, count = total(kind, logits, none)
    assert (float(loss), int(count)) == (0.0, 0)
    gradient = jax.grad(lambda x: loss_sum(kind, x, none)[0])(logits)
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_equal_logits_cost_log_of_classes():
    loss, _ = slow.softmax_cross_entropy(np.zeros((1, Y)), np.array([2]), 0.0)
    assert_close(loss, np.log(Y), FLOAT64)


def test_correct_counts_real_images():
    logits = jnp.asarray(np.eye(4)[None])
    got = fast.correct(logits, jnp.asarray([[0, 1, 3, -1]]))
    assert int(got) == 2
