"""Retrieval: ranks by a loop over candidates; ties and NaN against the model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import coverage_error

from data.sources.source import Arrays
from data.tasks.contrast import Contrast
from navit_eqx.tasks.config import Bytes
from reference.evaluation import retrieval
from reference.evaluation.retrieval import mean_reciprocal_rank, ranks, recall
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.tolerances import EXACT, assert_close


def case(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores on few levels, so that ties are frequent, with some NaN; and right candidates, sometimes none."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 8, 2)
    scores = rng.integers(0, levels, shape).astype(float)
    scores[rng.random(shape) < 0.1] = np.nan
    return scores, rng.random(shape) < 0.3


def one_rank(scores: np.ndarray, right: np.ndarray) -> int:
    """The last place of the first right candidate among equal scores, by its definition."""
    known = [(-np.inf if r else np.inf) if np.isnan(s) else s for s, r in zip(scores, right)]
    if not right.any():
        return len(scores) + 1
    return 1 + min(sum(o >= known[p] for o, r in zip(known, right) if not r) for p in np.flatnonzero(right))


@given(seed=seeds, levels=st.integers(1, 6))
def test_ranks_are_counted_one_by_one(seed, levels):
    scores, right = case(seed, levels)
    np.testing.assert_array_equal(ranks(scores, right), [one_rank(*each) for each in zip(scores, right)])


@given(seed=seeds)
def test_one_right_candidate_is_ranked_as_scikit_learn_does(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (5, 6)).astype(float)
    right = np.eye(6, dtype=bool)[rng.integers(0, 6, 5)]
    assert_close(ranks(scores, right).mean(), coverage_error(right, scores), EXACT)


@given(seed=seeds, levels=st.integers(1, 6))
def test_the_order_of_candidates_is_invisible(seed, levels):
    scores, right = case(seed, levels)
    order = np.random.default_rng(seed).permutation(scores.shape[1])
    np.testing.assert_array_equal(ranks(scores[:, order], right[:, order]), ranks(scores, right))


def collapse_gains_nothing(ranks) -> None:
    """A model that gives one score to everything finds nothing."""
    right = np.eye(8, dtype=bool)
    for score in (0.0, np.nan):
        assert recall(ranks(np.full((8, 8), score), right), 7) == 0


def test_a_collapsed_model_finds_nothing():
    collapse_gains_nothing(ranks)


def test_ties_for_the_model_are_caught():
    def kind(scores, positive):
        best = np.where(positive, scores, -np.inf).max(-1, keepdims=True)
        return 1 + (~positive & (scores > best)).sum(-1)

    caught(collapse_gains_nothing, kind)


def test_recall_and_reciprocal_rank():
    found = np.array([1, 2, 5, 9])
    assert recall(found, 1) == 0.25 and recall(found, 5) == 0.75
    assert mean_reciprocal_rank(found) == pytest.approx((1 + 1 / 2 + 1 / 5 + 1 / 9) / 4)
    assert retrieval.__doc__


@given(seed=seeds)
def test_a_perfect_model_recalls_all_of_any_images(seed):
    """Texts that none of these images has are no questions; equal texts are one."""
    rng, words = np.random.default_rng(seed), ("dog", "cat", "Cat!", "bird", "fish", "cow")
    sets = np.stack([rng.permutation(6)[:2] for _ in range(8)]).astype(np.int32)
    manifest = Arrays([np.zeros((2, 2, 3), np.uint8)] * 8, sets, words).manifest
    task, ids = Contrast(tokenizer=Bytes(8), texts=None, shards=1, loss=None), rng.permutation(8)[: rng.integers(1, 9)]
    outputs = task.truth(ids, manifest).astype(float)
    assert task.scores(outputs, ids, manifest).all()
    assert {*task.metrics(outputs, ids, manifest).values()} == {1.0}
    assert task.metrics(0 * outputs, ids, manifest)["image_recall_at_1"] < 1 or len(ids) == 1
