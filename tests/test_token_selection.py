"""Which tokens stay: always as many as asked for, and with the chances that each law promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sampling.token_selection import AtRandom, ByContrast, Spread
from reference.sampling.token_selection import contrast, sample_at_random, sample_by_score, sample_spread
from tests.support.strategies import seeds

LAWS = [AtRandom(), Spread(), ByContrast(0.0), ByContrast(2.0)]
counts = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@pytest.mark.parametrize("law", LAWS, ids=repr)
@given(counts=counts, seed=seeds)
def test_as_many_as_asked_for_in_raster_order(law, counts, seed):
    tokens, kept = counts
    rng = np.random.default_rng(seed)
    stay = law.sample(rng, rng.integers(0, 256, (tokens, 12), np.uint8), kept)
    assert len(stay) == kept and stay.min() >= 0 and stay.max() < tokens
    assert (np.diff(stay) > 0).all()


def frequencies(sample, tokens: int, draws: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.bincount(np.concatenate([sample(rng) for _ in range(draws)]), minlength=tokens) / draws


@pytest.mark.parametrize("tokens, kept", [(12, 4), (12, 9), (7, 6)])
def test_no_token_is_preferred(tokens, kept):
    """Up to 4 standard errors; where doubles were moved, up to one part in n."""
    for sample, slack in ((sample_at_random, 0.0), (sample_spread, 1.0)):
        share = frequencies(lambda rng, s=sample: s(rng, tokens, kept), tokens)
        error = 4 * np.sqrt(kept / tokens * (1 - kept / tokens) / 4000)
        assert np.abs(share - kept / tokens).max() <= error + slack * kept / tokens**1.0 * 0.5


@given(counts=counts, seed=seeds)
def test_spread_leaves_no_hole(counts, seed):
    """No more than two stretches lie between neighbours; at random the hole may be as long as the image."""
    tokens, kept = counts
    stay = sample_spread(np.random.default_rng(seed), tokens, kept)
    assert np.diff(stay, prepend=-1, append=tokens).max() <= 2 * tokens / kept + 1


def test_chances_follow_the_scores():
    """With one token kept, the chance is the softmax of sharpness times score."""
    scores = np.array([0.0, 1.0, -1.0, 0.5])
    for sharpness in (0.0, 1.0, 2.0):
        want = np.exp(sharpness * scores) / np.exp(sharpness * scores).sum()
        share = frequencies(lambda rng, a=sharpness: sample_by_score(rng, scores, 1, a), 4)
        assert np.abs(share - want).max() < 4 * np.sqrt(0.25 / 4000)


def test_contrast_sees_texture_not_brightness():
    rng = np.random.default_rng(0)
    patches = np.stack([np.full(48, 10), np.full(48, 240), rng.integers(0, 256, 48), rng.integers(100, 120, 48)])
    scores = contrast(patches.astype(np.uint8))
    assert scores[0] == scores[1] < scores[3] < scores[2]
    stay = np.concatenate([ByContrast(3.0).sample(rng, patches.astype(np.uint8), 2) for _ in range(300)])
    assert np.isin(stay, [2, 3]).mean() > 0.95


def test_wrong_choices_are_caught():
    """Without moving doubles, or taking the first tokens, the laws above would not hold."""
    rng = np.random.default_rng(1)
    doubles = [np.floor((np.arange(6) + rng.random(6)) * 7 / 6) for _ in range(50)]
    assert any(len(set(d)) < 6 for d in doubles)
    first = frequencies(lambda rng: np.arange(4), 12)
    assert np.abs(first - 4 / 12).max() > 0.5
