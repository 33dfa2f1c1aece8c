"""Divergence from a teacher, over classes and over decisions, against its formula and its gradient."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from navit_eqx.tasks import distill as fast
from reference.evaluation.calibration import softmax as probabilities
from reference.tasks import distill as losses
from tests.support.strategies import I, seeds
from tests.support.tolerances import CANCELLED64, EXACT, FLOAT64, GRADIENT64, assert_close

# over classes -------------------------------------------------------------------------------------


@jax.jit
def with_gradient(logits, teacher, real):
    """The loss and its count, and the gradient of the loss."""
    value = fast.kl_divergence(logits, teacher, real)
    return value, jax.grad(lambda x: fast.kl_divergence(x, teacher, real)[0])(logits)


@given(seed=seeds, scale=st.sampled_from([0.1, 1.0, 50.0]))
def test_divergence(seed, scale):
    draw = np.random.default_rng(seed)
    logits, teacher = scale * draw.normal(size=(2, I, 7))
    real = draw.random(I) < 0.7
    got, count = losses.kl_divergence(logits, teacher, real)
    assert got >= -EXACT and count == real.sum()
    same, _ = losses.kl_divergence(logits, logits + draw.normal(size=(I, 1)), real)
    assert abs(same) < FLOAT64, "equal up to a constant is equal"
    (fast, fast_count), gradient = with_gradient(logits, teacher, real)
    assert abs(float(fast) - got) <= FLOAT64 * max(1, abs(got)) and int(fast_count) == count
    difference = (probabilities(logits) - probabilities(teacher)) * real[:, None]
    assert np.abs(np.asarray(gradient) - difference).max() <= GRADIENT64


def test_divergence_is_not_symmetric():
    """KL(teacher ‖ student): a student must not deny what the teacher thinks possible."""
    student, teacher = np.array([[9.0, 0.0]]), np.array([[0.0, 0.0]])
    real = np.ones(1, bool)
    forgets, hesitates = (losses.kl_divergence(a, b, real)[0] for a, b in ((student, teacher), (teacher, student)))
    assert forgets > 5 * hesitates


# over decisions ---------------------------------------------------------------------------------


@jax.jit
def decisions(logits, teacher, real):
    value = fast.sigmoid_kl_divergence(logits, teacher, real)
    return value, jax.grad(lambda x: fast.sigmoid_kl_divergence(x, teacher, real)[0])(logits)


@given(seed=seeds, scale=st.sampled_from([0.1, 1.0, 50.0]))
def test_divergence_of_decisions(seed, scale):
    draw = np.random.default_rng(seed)
    logits, teacher = scale * draw.normal(size=(2, I, 7))
    real = draw.random(I) < 0.7
    got, count = losses.sigmoid_kl_divergence(logits, teacher, real)
    assert got >= -EXACT and count == real.sum()
    assert abs(losses.sigmoid_kl_divergence(logits, logits, real)[0]) < EXACT
    (fast, fast_count), gradient = decisions(logits, teacher, real)
    assert abs(float(fast) - got) <= FLOAT64 * max(1, abs(got)) and int(fast_count) == count
    p, q = (1 / (1 + np.exp(-x)) for x in (teacher, logits))
    assert np.abs(np.asarray(gradient) - (q - p) * real[:, None]).max() <= GRADIENT64
    if scale < 50:
        known = (p * (np.log(p) - np.log(q)) + (1 - p) * (np.log1p(-p) - np.log1p(-q)))[real]
        assert_close(got, known.sum(), CANCELLED64)
