"""Drop rates follow their law, by image, by resolution and on a schedule; wrong ones are caught."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc

from data.plan import Plan, plan_epoch
from data.sampling.dropping import Beta, ByResolution, Constant, Schedule
from data.sampling.packing import FirstFit, Packing
from data.sampling.resolution import Native, TruncatedNormal
from reference.sampling import dropping
from reference.sampling.distributions import sample_truncated_normal
from reference.sampling.dropping import SIGMA, beta_parameters, kept_tokens, sample_rate_by_length, scheduled_rate
from tests.support.laws import caught
from tests.support.sampling import (
    N,
    clipped,
    falls_from_0_8_to_0_2,
    follows,
    goes_on,
    has_noise_of_sigma,
    rng,
    uniform,
)
from tests.support.tolerances import FLOAT64, assert_close

# Figure 14a of the paper: share of images that lose less than a tenth of their tokens.
FIGURE = [
    (0.4, 0.10, 60.3), (0.4, 0.25, 11.5), (0.4, 0.35, 1.3),
    (0.7, 0.10, 66.9), (0.7, 0.25, 27.3), (0.7, 0.50, 2.3), (0.7, 0.65, 0.1),
    (0.9, 0.10, 70.4), (0.9, 0.25, 33.5), (0.9, 0.50, 5.9), (0.9, 0.70, 0.9), (0.9, 0.85, 0.1),
]  # fmt: skip
TOKENS = np.random.default_rng(1).integers(16, 577, N)
SEEN = np.arange(N)


def beta_cdf(mean: float | np.ndarray, highest: float, rate) -> np.ndarray:
    mu = np.asarray(mean) / highest
    return betainc(7 / 3 * mu, 7 / 3 * (1 - mu), np.clip(rate / highest, 0, 1))


@pytest.mark.parametrize("highest, mean, printed", FIGURE)
def test_beta_rates_are_those_of_the_figure(highest, mean, printed):
    a, b = beta_parameters(np.array([mean], float), highest)
    assert abs(100 * betainc(a, b, 0.1 / highest)[0] - printed) < 1
    variance = 0.3 * (mean / highest) * (1 - mean / highest)
    assert_close(a * b / ((a + b) ** 2 * (a + b + 1)), [variance], FLOAT64)
    rates = Beta(mean, highest).rates(rng(), TOKENS, SEEN)
    follows(rates, lambda x: beta_cdf(mean, highest, x))
    assert 0 <= rates.min() and rates.max() <= highest


@pytest.mark.parametrize("mean, highest", [(0, 0.5), (0.5, 0.5), (0.5, 1.1), (0.7, 0.3)])
def test_beta_refuses_impossible_means(mean, highest):
    with pytest.raises(ValueError, match="0 < mean < highest"):
        beta_parameters(np.array([mean], float), highest)
    with pytest.raises(ValueError, match="mean=|highest="):
        Beta(mean, highest)


@pytest.mark.parametrize("lo, hi", [(0.1, 0.9), (0.25, 0.75), (0.4, 0.6), (0.5, 0.5)])
def test_rates_by_resolution(lo, hi):
    """The paper's three ranges, and no range; linear between s_min and s_max, at these where lengths go beyond."""
    law = ByResolution(lo, hi, 36, 476)
    rates = law.rates(rng(), TOKENS, SEEN)
    mean = np.interp(TOKENS, [36, 476], [lo, hi])
    has_noise_of_sigma(rates, mean)
    assert lo - 0.04 <= rates.min() and rates.max() <= hi + 0.04


@pytest.mark.parametrize(
    "law, message",
    [
        (Schedule(Beta(0.5, 0.7), images=9), "0 < mean < highest"),
        (Schedule(ByResolution(0.4, 0.6, 1, 9), lo=0.0, images=9), "0.04 <= lo"),
    ],
)  # fmt: skip
def test_impossible_rates_are_refused(law, message):
    with pytest.raises(ValueError, match=message):
        law.rates(rng(), TOKENS, SEEN)


@pytest.mark.parametrize(
    "lo, hi, shortest, longest, message",
    [
        (0.0, 0.5, 1, 9, "0.04 <= lo"),
        (0.5, 1.0, 1, 9, "hi <= 0.96"),
        (0.6, 0.5, 1, 9, "lo <= hi"),
        (0.1, 0.9, 9, 9, "shortest < longest"),
    ],
)
def test_impossible_ranges_are_refused(lo, hi, shortest, longest, message):
    """By the formula, and by the options."""
    ends = np.full(len(TOKENS), lo), np.full(len(TOKENS), hi)
    with pytest.raises(ValueError, match=message):
        sample_rate_by_length(rng(), TOKENS, *ends, shortest, longest)
    with pytest.raises(ValueError, match="lo=|hi=|longest="):
        ByResolution(lo, hi, shortest, longest)


@pytest.mark.parametrize(
    "lo, hi, width, message", [(0.2, 0.8, 0.0, "a width"), (0.5, 0.3, -0.1, "0 <= lo <= hi"), (0.2, 1.1, 1.0, "<= 1")]
)
def test_impossible_schedules_are_refused(lo, hi, width, message):
    """By the formula, and by the options."""
    with pytest.raises(ValueError, match=message):
        scheduled_rate(SEEN, lo, hi, 0.5, width)
    with pytest.raises(ValueError, match="lo=|hi=|width must not be 0"):
        Schedule(lo=lo, hi=hi, width=width)


def test_rates_outside_0_and_1_are_refused():
    for rate in (-0.01, 1.01):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            kept_tokens(np.array([9]), np.array([rate]))


def test_a_normal_law_out_of_reach_is_refused():
    """It would draw forever."""
    with pytest.raises(ValueError, match="does not reach"):
        sample_truncated_normal(rng(), 9.0, 1.0, -1.0, 1.0, 1)
    with pytest.raises(ValueError, match="mean=9.0 must be in"):
        TruncatedNormal(9.0)


@given(tokens=st.lists(st.integers(1, 500), min_size=1, max_size=9))
def test_rate_0_is_the_identity_and_rate_1_keeps_one(tokens):
    counts = np.array(tokens)
    for law in (Constant(0.0), Schedule(lo=0.0, hi=0.0, images=5)):
        np.testing.assert_array_equal(kept_tokens(counts, law.rates(rng(), counts, counts)), counts)
    assert (kept_tokens(counts, np.ones(len(counts))) == 1).all()


def schedule_of_paper(images_seen: np.ndarray) -> np.ndarray:
    return Schedule(images=1_000).rates(rng(), images_seen, images_seen)


def test_the_fast_schedule_as_numbers():
    falls_from_0_8_to_0_2(schedule_of_paper)


@given(lo=st.floats(0, 0.4), hi=st.floats(0.5, 1), middle=st.floats(0.2, 0.8), width=st.sampled_from([-0.2, -0.1, 0.1]))
def test_a_schedule_is_a_sigmoid_of_the_images_seen(lo, hi, middle, width):
    n = np.arange(0, 1_000, 50)
    rho = Schedule(lo=lo, hi=hi, images=1_000, middle=middle, width=width).rates(rng(), n, n)
    z = (n / 1_000 - middle) / width
    assert_close((rho - lo) / (hi - lo), 1 / (1 + np.exp(-z)), FLOAT64)
    assert (np.sign(np.diff(rho)) == np.sign(width)).all()


@pytest.mark.parametrize("middle, width, images", [(0.5, 0.1, 1.0), (0.5, -0.1, 1.0), (2 / 3, -0.2, 1.115)])
def test_images_that_a_schedule_sees_for_the_tokens_of_a_constant_half(middle, width, images):
    """The paper's three over N = 50,000 images: as many tokens as N images at rate 1/2 have, to three decimals."""
    n = np.arange(100_000)
    kept = np.cumsum(1 - scheduled_rate(n, 0.2, 0.8, 50_000 * middle, 50_000 * width))
    assert round(float(np.interp(25_000, kept, n)) / 50_000, 3) == images


def test_a_schedule_moves_the_mean_of_any_law():
    """Constant: the rate. Beta: each image's own distribution function gives uniform numbers. ByResolution: the
    middle of the range, which gets narrower near 0 and 1."""
    means = scheduled_rate(SEEN, 0.2, 0.8, N / 2, -N / 10)
    ema_update = lambda law: Schedule(law, images=N).rates(rng(), TOKENS, SEEN)
    np.testing.assert_array_equal(ema_update(Constant(0.9)), means)
    follows(beta_cdf(means, 0.9, ema_update(Beta(0.3, 0.9))), uniform(0, 1))
    half = np.minimum(0.3, np.minimum(means, 1 - means) - 0.04)
    place = (TOKENS - 16) / 560
    has_noise_of_sigma(ema_update(ByResolution(0.2, 0.8, 16, 576)), means + half * (2 * place - 1))


@pytest.mark.parametrize("width", [-0.1, 0.1])
def test_two_epochs_go_on_exactly(width):
    """Image numbers run on over epochs, in the order of each; so a resumed run drops what an unbroken one would."""
    law = Schedule(images=90, width=width)
    goes_on(partial(scheduled_plan, law), 100, 30, lambda n: law.rates(rng(), n, n))


def scheduled_plan(law, epoch: int, **changes) -> Plan:
    settings = dict(
        seed=7, patch_size=(16, 16), resolution=Native(), packing=Packing(128, 9, FirstFit(4)), longest_side=20
    )
    return plan_epoch(np.full((30, 2), 160, np.int32), epoch=epoch, dropping=law, **{**settings, **changes})


@pytest.mark.parametrize("name, value", [("SIGMA", SIGMA**0.5), ("CUT", 3.0), ("sample_truncated_normal", clipped)])
def test_wrong_noise_of_rates(monkeypatch, name, value):
    """Sigma taken for the variance, cut at three sigma, clipped instead of drawn again."""
    monkeypatch.setattr(dropping, name, value)
    ends = np.full(N, 0.5)
    caught(has_noise_of_sigma, sample_rate_by_length(rng(), TOKENS, ends, ends, 16, 576), ends)


@pytest.mark.parametrize("concentration", [1 / 0.3, 1 / 0.09 - 1])
def test_a_beta_law_of_another_variance(concentration):
    """Without the − 1, or with 0.3 taken for a standard deviation."""
    mu = 0.5 / 0.9
    rates = 0.9 * rng().beta(concentration * mu, concentration * (1 - mu), N)
    caught(follows, rates, lambda x: beta_cdf(0.5, 0.9, x))


def test_a_schedule_reversed():
    caught(falls_from_0_8_to_0_2, lambda n: scheduled_rate(n, 0.2, 0.8, 500, 100))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda epoch, count, start, end: np.arange(start, end),
        lambda epoch, count, start, end: epoch * count + np.arange(start, end)[::-1],
        lambda epoch, count, start, end: 1 + epoch * count + np.arange(start, end),
    ],
    ids=["starts anew", "backwards", "counts itself"],
)
def test_images_counted_wrongly(monkeypatch, wrong):
    law = Schedule(images=90)
    monkeypatch.setattr("data.plan.images_seen", wrong)
    caught(goes_on, partial(scheduled_plan, law), 100, 30, lambda n: law.rates(rng(), n, n))
