"""Losses over logits: both sides agree, and a mean is taken once, over images."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navit_eqx.tasks import classify as fast
from navit_eqx.tasks import multi_label as fast_sets
from reference.tasks import classify as slow
from reference.tasks import multi_label as slow_sets
from tests.support import laws
from tests.support.strategies import I, seeds
from tests.support.tolerances import FLOAT64, assert_close

B, Y, M = 3, 7, 4
KINDS = {"softmax": ("softmax", 0.0), "smoothed": ("softmax", 0.1), "sigmoid": ("sigmoid", 0.0)}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
labels = st.lists(st.integers(-1, Y - 1), min_size=B * I, max_size=B * I).map(
    lambda ids: np.array(ids, np.int32).reshape(B, I)
)


@eqx.filter_jit
def total(kind, logits, targets):
    """(sum, count) in the backend."""
    link, smoothing = kind
    target = fast.soft_labels(targets, logits.shape[-1], smoothing)
    return fast.CROSS_ENTROPIES[link](logits, target, targets.labels >= 0)


def labelled(labels, partners=None, weights=None):
    """Targets of the backend; without partners nothing is mixed."""
    partners = np.full_like(labels, -1) if partners is None else partners
    weights = np.zeros(np.shape(labels)) if weights is None else weights
    return fast.Targets(*map(jnp.asarray, (labels, partners, weights)))


def reference_sum(kind, logits, *targets):
    link, smoothing = kind
    targets = slow.Targets(*targets)
    return slow.CROSS_ENTROPIES[link](logits, slow.soft_labels(targets, Y, smoothing), targets.labels >= 0)


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
    logits, none = jnp.ones((B, I, Y)), labelled(np.full((B, I), -1, np.int32))
    loss, count = total(kind, logits, none)
    assert (float(loss), int(count)) == (0.0, 0)
    gradient = jax.grad(lambda x: total(kind, x, none)[0])(logits)
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_equal_logits_cost_log_of_classes():
    loss, _ = reference_sum(KINDS["softmax"], np.zeros((1, Y)), *one_label(2))
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


# sets of labels -----------------------------------------------------------------------------------

label_sets = st.lists(st.integers(-1, Y - 1), min_size=I * M, max_size=I * M).map(
    lambda ids: np.array(ids, np.int32).reshape(I, M)
)
soft_sets = jax.jit(fast_sets.soft_label_sets, static_argnums=1)


@given(own=label_sets, other=label_sets, seed=seeds)
def test_soft_label_sets(own, other, seed):
    """Both sides agree; a class that a set names twice counts once; the partner counts by its weight."""
    weights = np.random.default_rng(seed).random(I)
    want = slow_sets.soft_label_sets(slow_sets.Targets(own, other, weights), Y)
    got = soft_sets(fast_sets.Targets(*map(jnp.asarray, (own, other, weights))), Y)
    assert_close(got, want, FLOAT64)
    for slot in range(I):
        by_hand = [(1 - weights[slot]) * (y in own[slot]) + weights[slot] * (y in other[slot]) for y in range(Y)]
        assert_close(want[slot], by_hand, FLOAT64)


def test_an_empty_set_says_no_to_every_class():
    none = np.full((1, M), -1, np.int32)
    targets = slow_sets.Targets(none, none, np.zeros(1))
    np.testing.assert_array_equal(slow_sets.soft_label_sets(targets, Y), np.zeros((1, Y)))
    loss, count = slow.sigmoid_cross_entropy(np.zeros((1, Y)), np.zeros((1, Y)), np.ones(1, bool))
    assert count == 1
    assert_close(loss, Y * np.log(2), FLOAT64)


def test_hits_at_1_counts_images_with_a_class_of_theirs_at_the_top():
    logits = jnp.asarray(np.eye(4)[None])
    sets = jnp.asarray([[[0, 3], [2, -1], [-1, -1], [3, 3]]])
    assert int(fast_sets.hits_at_1(logits, sets, jnp.asarray([[True, True, True, True]]))) == 2
    assert int(fast_sets.hits_at_1(logits, sets, jnp.asarray([[False, True, True, True]]))) == 1
