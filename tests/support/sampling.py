"""What the tests of sampling laws share: what a distribution, a schedule and a packing promise, and wrong draws."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from scipy.special import ndtr

from data.plan import Plan
from data.randomness import Purpose, generator
from reference.sampling.dropping import kept_tokens
from tests.support.laws import caught as caught
from tests.support.tolerances import FLOAT64, assert_close

N = 20_000


Cdf = Callable[[np.ndarray], np.ndarray]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def follows(draws: np.ndarray, cdf: Cdf) -> None:
    """The share of draws up to each value is what the distribution function says."""
    wanted = cdf(np.sort(draws))
    steps = np.arange(len(draws) + 1) / len(draws)
    distance = max((steps[1:] - wanted).max(), (wanted - steps[:-1]).max())
    assert distance < 1.95 / np.sqrt(len(draws)), f"distance {distance:.4f} from the distribution function"


def uniform(lo: float, hi: float) -> Cdf:
    return lambda x: np.clip((x - lo) / (hi - lo), 0, 1)


def truncated_normal(mean: float, sigma: float, lo: float, hi: float) -> Cdf:
    below, above = ndtr((lo - mean) / sigma), ndtr((hi - mean) / sigma)
    return lambda x: np.clip((ndtr((x - mean) / sigma) - below) / (above - below), 0, 1)


def draws_places(side_of: Callable, place_of: Callable, place: Cdf) -> None:
    """Resolutions (count → side) whose place in the range follows a distribution on [−1, 1]."""
    side = side_of(N)
    assert 6_400 - 1 <= side.min() and side.max() <= 38_400
    follows(side, lambda x: place(place_of(x)))


def is_largest_that_fits(grid: np.ndarray, size: tuple[int, ...], tokens: int) -> None:
    """Some scale has this grid; the next scale at which any axis gains a patch has too many tokens."""

    def at(scale: Fraction) -> list[int]:
        return [max(1, scale * s // 1) for s in size]

    counts = [int(g) for g in grid]
    reached = max(Fraction(g if g > 1 else 0, s) for g, s in zip(counts, size))
    assert at(reached) == counts and np.prod(counts) <= tokens
    further = min(Fraction(g + 1, s) for g, s in zip(counts, size))
    assert np.prod([float(n) for n in at(further)]) > tokens


def has_noise_of_sigma(rates: np.ndarray, mean: np.ndarray) -> None:
    """Rates are their mean plus 0.02 of a normal cut at two sigma."""
    follows((rates - mean) / 0.02, truncated_normal(0, 1, -2, 2))


def falls_from_0_8_to_0_2(rate_of: Callable) -> None:
    """The paper's fast schedule over N images, as numbers: σ(±5) at the ends, a half in the middle."""
    ends, near = [0.8 - 0.6 / (1 + np.e**5), 0.5, 0.2 + 0.6 / (1 + np.e**5)], [1 / np.e, np.e]
    assert_close(rate_of(np.array([0, 500, 1000])), ends, FLOAT64)
    assert_close(rate_of(np.array([400, 600])), [0.2 + 0.6 / (1 + x) for x in near], FLOAT64)


def goes_on(plan_of: Callable[[int], Plan], tokens: int, count: int, rate_of: Callable) -> None:
    """Image k of epoch e keeps what the schedule says after e · N + k images."""
    for epoch in range(3):
        plan = plan_of(epoch)
        used = plan.image_ids >= 0
        kept = dict(zip(plan.image_ids[used].tolist(), plan.kept[used].tolist()))
        order = generator(Purpose.ORDER, 7, epoch).permutation(count)
        wanted = kept_tokens(np.full(count, tokens), rate_of(epoch * count + np.arange(count)))
        assert [kept[i] for i in order.tolist()] == wanted.tolist()


def overtakes_few(rows: list[list[int]], window: int, misfits: int) -> None:
    """When a group of `window` rows closes, at most `misfits` images older than its youngest still wait."""
    for end in range(window, len(rows), window):
        placed = {i for row in rows[:end] for i in row}
        youngest = max(i for row in rows[end - window : end] for i in row)
        assert sum(i not in placed for i in range(youngest)) <= misfits


def photo_sizes(count: int) -> np.ndarray:
    """Aspect ratios log-normal with σ = 0.3."""
    tilt = np.exp(0.15 * np.random.default_rng(3).normal(size=count))
    return np.round(np.stack([1_000 * tilt, 1_000 / tilt], -1)).astype(np.int32)


def clipped(rng, mean, sigma, lo, hi, count):
    return np.clip(rng.normal(mean, sigma, count), lo, hi)
