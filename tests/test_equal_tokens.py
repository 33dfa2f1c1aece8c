"""Equal tokens in several ways: the arms of experiments/adaptive_tokens."""

import re

import numpy as np
import pytest

from data.plan import plan_epoch
from data.sampling.packing import Packing
from experiments.adaptive_tokens.run import CLAIMS, OWN, ROW, TOKENS, WAYS, arms, budget, read, way
from experiments.trial import training_flops
from harness.config import DataConfig
from reference.sampling.dropping import kept_tokens
from tests.support.laws import caught

SIZES = np.array([[20, 20 * k] for k in range(1, 9)] + [[20 * k, 20] for k in range(1, 9)], np.int32)
DIGITS = SIZES.prod(-1) // 400


def tokens_of(name: str, tokens: int) -> np.ndarray:
    """Tokens that the plan keeps of strips of one to eight digits."""
    data, rng = DataConfig(**way(name, tokens)), np.random.default_rng(0)
    grids = data.law.grids(rng, SIZES, (8, 8))
    counts = data.law.token_counts(grids)
    return kept_tokens(counts, data.dropping.rates(rng, counts, np.arange(len(counts))))


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("name", WAYS)
def test_every_way_has_as_many_tokens(name, tokens):
    """Exactly as many a digit; merging at 9 has as many in the mean of all strips, 4 % fewer at most."""
    found = tokens_of(name, tokens)
    if (name, tokens) == ("merge", 9):
        assert 0.96 <= found.sum() / (9 * DIGITS.sum()) <= 1
    else:
        np.testing.assert_array_equal(found, tokens * DIGITS)


def test_another_rate_is_caught(monkeypatch):
    monkeypatch.setattr(
        "data.sampling.merge.Merge.quads", lambda self, rng, grids, complexity: np.zeros(len(grids), np.int32)
    )
    caught(test_every_way_has_as_many_tokens, "merge", 4)


def test_compute_is_as_the_page_says():
    for name, config in arms(300).items():
        flops = budget(name) * training_flops(arms(300)["merge, 4"])
        assert training_flops(config) == pytest.approx(flops, rel=1e-3), name
        plan = plan_epoch(
            SIZES, seed=0, epoch=0, patch_size=(8, 8), resolution=config.data.law, dropping=config.data.dropping,
            packing=Packing(ROW, ROW // 2), longest_side=64,
        )  # fmt: skip
        assert not plan.left_out


def test_claims_are_of_arms_and_views():
    views = {f"{name}, {t}": 0.5 for name in WAYS for t in TOKENS}
    trials = [{"arm": name, "accuracy": {OWN: 0.5}, "also": views if name == "whole" else {}} for name in arms(300)]
    known = {trial["arm"] for trial in read(trials)}
    assert {arm for claim in CLAIMS for pair in claim.pairs for side in pair for arm in side} <= known
    assert all(re.search(r"\d|whole", name) for name in known)
