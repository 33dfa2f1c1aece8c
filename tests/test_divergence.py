"""Divergence from a teacher, over classes and over decisions, against its formula and its gradient."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from navit_eqx.tasks import classify as fast_losses
from navit_eqx.training import step as fast_train
from reference.evaluation.calibration import softmax as probabilities
from reference.tasks import classify as losses
from tests.support.strategies import I, seeds
from tests.support.tolerances import GRADIENT64, assert_close

# over classes -------------------------------------------------------------------------------------


@jax.jit
def with_gradient(logits, teacher, labels):
    """The loss and its count, and the gradient of the loss."""
    value = fast_losses.kl_divergence(logits, teacher, labels)
    return value, jax.grad(lambda x: fast_losses.kl_divergence(x, teacher, labels)[0])(logits)


@given(seed=seeds, scale=st.sampled_from([0.1, 1.0, 50.0]))
def test_divergence(seed, scale):
    draw = np.random.default_rng(seed)
    logits, teacher = scale * draw.normal(size=(2, I, 7))
    labels = draw.integers(-1, 3, I)
    got, count = losses.kl_divergence(logits, teacher, labels)
    assert got >= -1e-12 and count == (labels >= 0).sum()
    same, _ = losses.kl_divergence(logits, logits + draw.normal(size=(I, 1)), labels)
    assert abs(same) < 1e-10, "equal up to a constant is equal"
    (fast, fast_count), gradient = with_gradient(logits, teacher, labels)
    assert abs(float(fast) - got) <= 1e-10 * max(1, abs(got)) and int(fast_count) == count
    difference = (probabilities(logits) - probabilities(teacher)) * (labels >= 0)[:, None]
    assert np.abs(np.asarray(gradient) - difference).max() <= GRADIENT64


def test_divergence_is_not_symmetric():
    """KL(teacher ‖ student): a student must not deny what the teacher thinks possible."""
    student, teacher = np.array([[9.0, 0.0]]), np.array([[0.0, 0.0]])
    labels = np.zeros(1, int)
    forgets, hesitates = (losses.kl_divergence(a, b, labels)[0] for a, b in ((student, teacher), (teacher, student)))
    assert forgets > 5 * hesitates


# over decisions ---------------------------------------------------------------------------------


@jax.jit
def decisions(logits, teacher, labels):
    value = fast_train.sigmoid_kl_divergence(logits, teacher, labels)
    return value, jax.grad(lambda x: fast_train.sigmoid_kl_divergence(x, teacher, labels)[0])(logits)


@given(seed=seeds, scale=st.sampled_from([0.1, 1.0, 50.0]))
def test_divergence_of_decisions(seed, scale):
    draw = np.random.default_rng(seed)
    logits, teacher = scale * draw.normal(size=(2, I, 7))
    labels = draw.integers(-1, 3, I)
    got, count = losses.sigmoid_kl_divergence(logits, teacher, labels)
    assert got >= -1e-12 and count == (labels >= 0).sum()
    assert abs(losses.sigmoid_kl_divergence(logits, logits, labels)[0]) < 1e-12
    (fast, fast_count), gradient = decisions(logits, teacher, labels)
    assert abs(float(fast) - got) <= 1e-10 * max(1, abs(got)) and int(fast_count) == count
    p, q = (1 / (1 + np.exp(-x)) for x in (teacher, logits))
    assert np.abs(np.asarray(gradient) - (q - p) * (labels >= 0)[:, None]).max() <= GRADIENT64
    if scale < 50:
        known = (p * (np.log(p) - np.log(q)) + (1 - p) * (np.log1p(-p) - np.log1p(-q)))[labels >= 0]
        assert_close(got, known.sum(), 1e-8)
