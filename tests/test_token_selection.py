"""Which tokens stay: as many as asked for, with the chances that each law promises; wrong laws are caught."""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache, partial
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sampling.token_selection import AtRandom, ByContrast, Spread
from reference.sampling import token_selection
from reference.sampling.token_selection import contrast, sample_at_random, sample_by_score, sample_spread
from tests.support.laws import caught
from tests.support.strategies import seeds

Sample = Callable[[np.random.Generator, int, int], np.ndarray]

LAWS = [AtRandom(), Spread(), ByContrast(0.0), ByContrast(2.0)]
DRAWS = 4_000
counts = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# as many as asked for ---------------------------------------------------------------------------------------


def stay_in_raster_order(stay: np.ndarray, tokens: int, kept: int) -> None:
    """`kept` different tokens of the image, in raster order."""
    assert len(stay) == kept and stay.min() >= 0 and stay.max() < tokens
    assert (np.diff(stay) > 0).all()


@pytest.mark.parametrize("law", LAWS, ids=repr)
@given(counts=counts, seed=seeds)
def test_as_many_as_asked_for_in_raster_order(law, counts, seed):
    tokens, kept = counts
    patches = rng(seed).integers(0, 256, (tokens, 12), np.uint8)
    stay_in_raster_order(law.sample(rng(seed), patches, kept), tokens, kept)


def places(rng: np.random.Generator, tokens: int, kept: int) -> np.ndarray:
    """One place in each stretch, doubles among them."""
    return np.floor((np.arange(kept) + rng.random(kept)) * tokens / kept).astype(np.int64)


def without_doubles(rng: np.random.Generator, tokens: int, kept: int) -> np.ndarray:
    return np.unique(places(rng, tokens, kept))


def unsorted(rng: np.random.Generator, tokens: int, kept: int) -> np.ndarray:
    return rng.permutation(tokens)[:kept]


@pytest.mark.parametrize("wrong", [places, without_doubles, unsorted])
def test_doubles_and_disorder_are_caught(wrong):
    def always() -> None:
        for seed in range(50):
            stay_in_raster_order(wrong(rng(seed), 7, 6), 7, 6)

    caught(always)


# chances ----------------------------------------------------------------------------------------------------


def frequencies(sample: Sample, tokens: int, kept: int) -> np.ndarray:
    """The share of draws in which each token stays."""
    draw = rng()
    return np.bincount(np.concatenate([sample(draw, tokens, kept) for _ in range(DRAWS)]), minlength=tokens) / DRAWS


def has_chances(sample: Sample, chances: np.ndarray, kept: int) -> None:
    """Tokens stay as often as the chances say, up to 4 standard errors."""
    share = frequencies(sample, len(chances), kept)
    error = 4 * np.sqrt(chances * (1 - chances) / DRAWS)
    assert (np.abs(share - chances) <= error).all(), f"{share} are not {chances}"


@lru_cache
def chances_of_spread(tokens: int, kept: int) -> list[Fraction]:
    """Exact, stretch by stretch: the chance of each place, given the last one that is taken."""
    chances, last = [Fraction(0)] * tokens, {-1: Fraction(1)}
    for i in range(kept):
        start, end = Fraction(i * tokens, kept), Fraction((i + 1) * tokens, kept)
        taken: dict[int, Fraction] = {}
        for place in range(int(start), tokens):
            share = max(Fraction(0), min(end, place + 1) - max(start, place)) * Fraction(kept, tokens)
            for before, chance in last.items() if share else ():
                here = max(place, before + 1)
                taken[here] = taken.get(here, Fraction(0)) + share * chance
        last = taken
        for place, chance in taken.items():
            chances[place] += chance
    return chances


CASES = [(12, 4), (12, 9), (7, 6), (13, 10), (9, 9)]
cases = pytest.mark.parametrize("tokens, kept", CASES)


@cases
def test_at_random_no_token_is_preferred(tokens, kept):
    has_chances(sample_at_random, np.full(tokens, kept / tokens), kept)


@cases
def test_spread_has_the_chances_of_its_stretches(tokens, kept):
    has_chances(sample_spread, np.array(chances_of_spread(tokens, kept), float), kept)


def prefers_no_token_by_far(chances: list[Fraction], kept: int) -> None:
    """Each k / n to within 22 % of it, to within 12.5 % where no more than half stay, and k in all."""
    tokens, even = len(chances), Fraction(kept, len(chances))
    limit = Fraction(22, 100) if 2 * kept > tokens else Fraction(1, 8)
    assert sum(chances) == kept
    assert all(abs(chance - even) <= limit * even for chance in chances)
    assert tokens % kept or {*chances} == {even}, "no token lies in two stretches"


def test_spread_prefers_no_token_by_far():
    for tokens in range(1, 31):
        for kept in range(1, tokens + 1):
            prefers_no_token_by_far(chances_of_spread(tokens, kept), kept)


def first(rng: np.random.Generator, tokens: int, kept: int) -> np.ndarray:
    return np.arange(kept)


def middles(rng: np.random.Generator, tokens: int, kept: int) -> np.ndarray:
    return ((np.arange(kept) + 0.5) * tokens / kept).astype(int)


def bootstrap(rng: np.random.Generator, tokens: int, kept: int) -> np.ndarray:
    """With replacement, doubles made good from the front."""
    drawn = np.unique(rng.integers(tokens, size=kept))
    rest = np.setdiff1d(np.arange(tokens), drawn)
    return np.sort(np.concatenate([drawn, rest[: kept - len(drawn)]]))


@pytest.mark.parametrize("wrong", [first, middles, bootstrap, sample_spread])
def test_a_preference_at_random_is_caught(wrong):
    caught(has_chances, wrong, np.full(12, 9 / 12), 9)


@pytest.mark.parametrize("wrong", [first, middles, bootstrap, sample_at_random])
def test_other_chances_of_stretches_are_caught(wrong):
    caught(has_chances, wrong, np.array(chances_of_spread(12, 9), float), 9)


@pytest.mark.parametrize("wrong", [first, middles])
def test_a_preference_by_far_is_caught(wrong):
    stays = wrong(rng(), 12, 9)
    caught(prefers_no_token_by_far, [Fraction(int(t in stays)) for t in range(12)], 9)


# holes ------------------------------------------------------------------------------------------------------


def leaves_no_hole(stay: np.ndarray, tokens: int, kept: int) -> None:
    """No more than two stretches lie between neighbours, or between the first or last token and the end."""
    assert np.diff(stay, prepend=-1, append=tokens).max() <= 2 * tokens / kept + 1


@given(counts=counts, seed=seeds)
def test_spread_leaves_no_hole(counts, seed):
    tokens, kept = counts
    leaves_no_hole(sample_spread(rng(seed), tokens, kept), tokens, kept)


@pytest.mark.parametrize("wrong", [sample_at_random, first])
def test_a_hole_is_caught(wrong):
    def always() -> None:
        for seed in range(50):
            leaves_no_hole(wrong(rng(seed), 40, 10), 40, 10)

    caught(always)


# scores -----------------------------------------------------------------------------------------------------

SCORES = np.array([0.0, 1.0, -1.0, 0.5])


def chances_of_scores(sharpness: float, kept: int) -> np.ndarray:
    """Drawn one by one without replacement, each ∝ exp(sharpness · score) among those that are left."""
    weights, chances = np.exp(sharpness * SCORES), np.zeros(len(SCORES))
    for order in permutations(range(len(SCORES)), kept):
        left, chance = weights.sum(), 1.0
        for t in order:
            chance, left = chance * weights[t] / left, left - weights[t]
        chances[[*order]] += chance
    return chances


def by_score(rng: np.random.Generator, tokens: int, kept: int, sharpness: float) -> np.ndarray:
    return token_selection.sample_by_score(rng, SCORES, kept, sharpness)


@pytest.mark.parametrize("kept", [1, 2, 3])
@pytest.mark.parametrize("sharpness", [0.0, 1.0, 2.0])
def test_chances_follow_the_scores(sharpness, kept):
    has_chances(partial(by_score, sharpness=sharpness), chances_of_scores(sharpness, kept), kept)


def test_infinite_sharpness_takes_the_highest_scores():
    for seed in range(50):
        assert sample_by_score(rng(seed), SCORES, 2, 1e6).tolist() == [1, 3]


def without_noise(rng, scores, kept, sharpness):
    return np.sort(np.argsort(-scores, kind="stable")[:kept])


def with_uniform_noise(rng, scores, kept, sharpness):
    return np.sort(np.argsort(-(sharpness * scores + rng.random(len(scores))), kind="stable")[:kept])


def lowest_first(rng, scores, kept, sharpness):
    return sample_by_score(rng, -scores, kept, sharpness)


def softened(rng, scores, kept, sharpness):
    return sample_by_score(rng, scores, kept, sharpness / 2)


@pytest.mark.parametrize("wrong", [without_noise, with_uniform_noise, lowest_first, softened])
def test_other_chances_of_scores_are_caught(monkeypatch, wrong):
    monkeypatch.setattr(token_selection, "sample_by_score", wrong)
    caught(has_chances, partial(by_score, sharpness=1.0), chances_of_scores(1.0, 2), 2)


# contrast ---------------------------------------------------------------------------------------------------


def sees_texture_not_brightness(score: Callable[[np.ndarray], np.ndarray]) -> None:
    """Flat patches, dark or bright, score alike and below faint texture; strong texture scores highest."""
    draw = rng()
    patches = np.stack([np.full(48, 10), np.full(48, 240), draw.integers(0, 256, 48), draw.integers(100, 120, 48)])
    scores = score(patches.astype(np.uint8))
    assert scores[0] == scores[1] < scores[3] < scores[2]


def test_contrast_sees_texture_not_brightness():
    sees_texture_not_brightness(contrast)


@pytest.mark.parametrize("wrong", [np.mean, np.max, lambda x, axis: -np.std(x, axis)])
def test_another_score_is_caught(wrong):
    caught(sees_texture_not_brightness, partial(wrong, axis=-1))


def mostly_textured(sharpness: float) -> None:
    """Of two flat and two textured patches, nearly always the textured ones stay."""
    draw = rng()
    flat, textured = np.full((2, 48), 90), draw.integers(0, 256, (2, 48))
    patches = np.concatenate([flat, textured]).astype(np.uint8)
    stay = np.concatenate([ByContrast(sharpness).sample(draw, patches, 2) for _ in range(300)])
    assert np.isin(stay, [2, 3]).mean() > 0.95


def test_by_contrast_keeps_texture():
    mostly_textured(3.0)
    caught(mostly_textured, 0.0)
