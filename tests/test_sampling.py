"""What is drawn follows the distribution that the paper names; schedules follow the images seen.

Draws are compared with their distribution function by the largest distance between the two (Kolmogorov-Smirnov),
at a bound that a right implementation exceeds once in a thousand seeds; seeds are fixed. Then wrong implementations,
each of which must be caught.
"""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from data.manifest import Manifest
from data.plan import plan_epoch
from data.sampling import resolution as objects
from data.sampling.dropping import Beta, ByResolution, Schedule
from data.sampling.packing import BestFit, DropSurplus, FirstFit, Packing
from data.sampling.resolution import Areas, Native, NeverEnlarged, Sides, Square, TokenBudget, TruncatedNormal, Uniform
from data.tasks.classify import Classify
from harness.cli import parse
from harness.config import Config, DataConfig
from harness.presets import photographs
from harness.resolve import resolve
from navit_eqx.errors import ConfigError
from navit_eqx.serialize import decode, encode
from reference.sampling import distributions
from reference.sampling.resolution import fit_tokens, linear_in_area, linear_in_side, target_grid
from tests.support.laws import caught
from tests.support.sampling import (
    Cdf,
    N,
    clipped,
    draws_places,
    follows,
    is_largest_that_fits,
    photo_sizes,
    rng,
    truncated_normal,
    uniform,
)
from tests.support.strategies import seeds

PATCH = 16, 16

# resolutions ------------------------------------------------------------------------------------------------

PLACES: list[tuple[Uniform | TruncatedNormal, Cdf]] = [
    (Uniform(), uniform(-1, 1)),
    *((TruncatedNormal(m), truncated_normal(m, 1, -1, 1)) for m in (-0.5, 0.0, 0.5)),
]
RANGES = [
    (Sides, lambda r: 2 * (r - 6_400) / 32_000 - 1),
    (Areas, lambda r: 2 * (r**2 - 6_400**2) / (38_400**2 - 6_400**2) - 1),
]


def sides_of(law, count: int) -> np.ndarray:
    """Sides of square images in pixels, to the pixel."""
    return law.grids(rng(), np.full((count, 2), 1_000, np.int32), (1, 1))[:, 0].astype(float)


@pytest.mark.parametrize("draw, place", PLACES, ids=[str(draw) for draw, _ in PLACES])
@pytest.mark.parametrize("kind, place_of", RANGES, ids=["Sides", "Areas"])
def test_resolutions_follow_their_law(kind, place_of, draw, place):
    draws_places(partial(sides_of, kind(6_400, 38_400, draw)), place_of, place)


def test_factors_of_the_native_size_are_uniform():
    follows(sides_of(Native(0.5, 1.5), N), uniform(500, 1_500 - 1))


# Mean tokens of square images, patches of 16, sides from 64 to 384: by the area, by the side.
MEANS = [
    (Uniform(), 296, 229),
    (TruncatedNormal(0), 296, 225),
    (TruncatedNormal(-0.5), 256, 186),
    (TruncatedNormal(0.5), 336, 266),
]


@pytest.mark.parametrize("draw, area, side", MEANS, ids=[str(m[0]) for m in MEANS])
def test_mean_tokens(draw, area, side):
    """Integrated over the quantiles, then of the drawn grids in finer patches, within three standard errors."""
    q = (np.arange(100_000) + 0.5) / 100_000
    u = 2 * q - 1
    if isinstance(draw, TruncatedNormal):
        lo, hi = ndtr(-1 - draw.mean), ndtr(1 - draw.mean)
        u = draw.mean + ndtri(lo + q * (hi - lo))
    for place, kind, mean in ((linear_in_area, Areas, area), (linear_in_side, Sides, side)):
        tokens = (place(u, 64, 384) / 16) ** 2
        assert abs(tokens.mean() - mean) < 0.6
        drawn = (sides_of(kind(6_400, 38_400, draw), N) / 1_600) ** 2
        assert abs(drawn.mean() - tokens.mean()) < 3 * tokens.std() / np.sqrt(N)


sizes_2 = st.tuples(st.integers(1, 400), st.integers(1, 400))


@given(size=st.one_of(sizes_2, st.tuples(*[st.integers(1, 30)] * 3)), tokens=st.integers(1, 600))
@example(size=(1, 100_000), tokens=7)
@example(size=(2**31 - 1, 1), tokens=100_000)
def test_no_larger_scale_fits_the_budget(size, tokens):
    is_largest_that_fits(fit_tokens(np.array([size]), np.array([tokens]))[0], size, tokens)


@given(size=sizes_2, tokens=st.integers(1, 600))
def test_a_budget_gives_a_grid_of_some_resolution(size, tokens):
    """`target_grid` reaches it: a budget is a resolution per image, not another way to resize."""
    sizes = np.array([size])
    grid = fit_tokens(sizes, np.array([tokens]))
    scale = max((g / s for g, s in zip(grid[0], size) if g > 1), default=0.0)
    np.testing.assert_array_equal(target_grid(sizes, np.array([16 * scale * np.sqrt(size[0] * size[1])]), PATCH), grid)


def test_a_budget_below_one_token_is_refused():
    """By the formula, and by the option."""
    with pytest.raises(ValueError, match="budget of 0"):
        fit_tokens(np.array([[3, 3]]), np.array([0]))
    with pytest.raises(ValueError, match="tokens=0 must be in"):
        TokenBudget(0)


@given(
    seed=seeds,
    law=st.sampled_from([Sides(32, 400), Areas(32, 400), Native(0.3, 3), TokenBudget(300)]),
    patch=st.sampled_from([PATCH, (8, 24), (30, 10)]),
)
def test_never_enlarged(seed, law, patch):
    """Whole patches of the native size at most; where the law asks for less, the law."""
    sizes = np.random.default_rng(seed).integers(1, 400, (60, 2)).astype(np.int32)
    free = law.grids(np.random.default_rng(seed), sizes, patch)
    grids = NeverEnlarged(law).grids(np.random.default_rng(seed), sizes, patch)
    own = target_grid(sizes, np.sqrt(sizes.prod(-1, dtype=float)), patch)
    assert (grids * patch <= np.maximum(patch, sizes)).all()
    for g, f, o in zip(grids.tolist(), free.tolist(), own.tolist()):
        assert g in (f, o)
    assert (grids == free).all(-1).any() or (free >= own).all()


@given(seed=seeds, resolution=st.floats(32, 400))
def test_every_law_at_a_resolution(seed, resolution):
    """Evaluation: no law draws, and wrappers pass the resolution on."""
    sizes = np.random.default_rng(seed).integers(1, 400, (20, 2)).astype(np.int32)
    grids = lambda law: law.grids(rng(), sizes, PATCH).tolist()
    assert grids(Areas(1, 2, TruncatedNormal()).at(resolution)) == grids(Sides(1, 2).at(resolution))
    assert TokenBudget(9).at(resolution) == TokenBudget(int(resolution))
    for law in (Sides(64, 256), Areas(64, 256), Native(0.5, 2), TokenBudget(64)):
        for outer in (law, NeverEnlarged(law), Square(law), Square(NeverEnlarged(law))):
            assert outer.spread == law.spread
            at = outer.at(resolution)
            assert at.spread == law.at(resolution).spread
            assert grids(at) == at.grids(np.random.default_rng(1), sizes, PATCH).tolist()


# wrong implementations --------------------------------------------------------------------------------------


def test_an_area_law_that_draws_the_side(monkeypatch):
    monkeypatch.setattr(objects, "linear_in_area", linear_in_side)
    caught(draws_places, partial(sides_of, Areas(6_400, 38_400)), RANGES[1][1], uniform(-1, 1))


def inward(rng, mean, sigma, lo, hi, count):
    return distributions.sample_truncated_normal(rng, 0.0, sigma, lo, hi, count)


def upside_down(rng, mean, sigma, lo, hi, count):
    return distributions.sample_truncated_normal(rng, -mean, sigma, lo, hi, count)


@pytest.mark.parametrize("wrong", [clipped, inward, upside_down])
def test_a_wrong_truncated_normal(monkeypatch, wrong):
    monkeypatch.setattr(objects, "sample_truncated_normal", wrong)
    law = partial(sides_of, Sides(6_400, 38_400, TruncatedNormal(-0.5)))
    caught(draws_places, law, RANGES[0][1], truncated_normal(-0.5, 1, -1, 1))


def test_a_budget_by_the_formula_of_equal_areas():
    """⌊size · √(T / h w)⌋ fits, and is not always the largest that does."""

    def by_formula(size, tokens):
        return np.maximum(1, np.floor(np.array(size) * np.sqrt(tokens / np.prod(size))).astype(int))

    is_largest_that_fits(by_formula((30, 30), 10), (30, 30), 10)
    caught(is_largest_that_fits, by_formula((30, 31), 13), (30, 31), 13)
    caught(is_largest_that_fits, np.array([4, 4]), (30, 31), 13)


# configuration ----------------------------------------------------------------------------------------------

LAWS = [
    DataConfig(resolution=Square(NeverEnlarged(Areas(64, 384, TruncatedNormal(0.5))))),
    DataConfig(resolution=TokenBudget(64), dropping=Schedule(Beta(0.4, 0.9), images=1e6)),
    DataConfig(dropping=Schedule(ByResolution(0.2, 0.8, 16, 256)), packing=Packing(64, 8, DropSurplus(BestFit(32, 4)))),
]


@pytest.mark.parametrize("data", LAWS)
def test_laws_survive_the_run_folder(data):
    assert decode(DataConfig, json.loads(json.dumps(encode(data)))) == data


def test_laws_are_chosen_by_name_on_the_command_line():
    words = "--data.resolution areas --data.resolution.draw truncated-normal --data.dropping schedule"
    options = "--data.resolution.hi 384 --data.resolution.draw.mean 0.5 --data.dropping.sampling.mean 0.3 --steps 7"
    config = parse(
        Config,
        default=photographs(),
        args=f"{words} --data.dropping.sampling beta --data.packing.rule first-fit {options}".split(),
    )
    assert config.data.resolution == Areas(None, 384, TruncatedNormal(0.5))
    assert config.data.dropping == Schedule(Beta(0.3, 0.9))
    assert config.data.packing.rule == FirstFit() and config.steps == 7
    config = parse(Config, default=photographs(), args="--data.dropping.mean 0.4 --data.resolution.hi 99".split())
    assert config.data.dropping == Beta(0.4, 0.7) and config.data.resolution == Sides(None, 99)


def manifest_of(count: int) -> Manifest:
    return Manifest(np.array([b"x"] * count), photo_sizes(count) // 5, np.zeros(count, np.int32), ("a",), "memory")


def resolved(**changes) -> Config:
    base = photographs()
    return resolve(replace(base, data=replace(base.data, **changes)), manifest_of(500), Classify())[0]


def test_what_the_data_decide():
    """Sides through wrappers; lengths of the shortest and longest; images of the run; room for every image."""
    config = resolved(resolution=NeverEnlarged(Areas()), dropping=Schedule(ByResolution(0.3, 0.7)))
    assert config.data.resolution == NeverEnlarged(Areas(96, 192))
    law = config.data.dropping
    assert isinstance(law, Schedule) and isinstance(law.sampling, ByResolution)
    assert 24 <= law.sampling.shortest <= 36 and 120 <= law.sampling.longest <= 144
    assert config.data.val_resolution == 192
    plans = [
        plan_epoch(
            manifest_of(500).sizes, seed=0, epoch=epoch, patch_size=PATCH, resolution=config.data.resolution,
            dropping=law, packing=config.data.packing, longest_side=64,
        )
        for epoch in (0, 30, 99)
    ]  # fmt: skip
    assert not any(plan.left_out for plan in plans)
    rows = np.mean([len(plan.kept) for plan in plans[::2]])
    assert 0.9 < config.steps * config.rows / (rows * law.images / 500) < 1.1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dropping": {"kind": "Beta", "mean": 0.9, "highest": 0.5}}, "config.data.dropping: mean=0.9"),
        ({"dropping": {"kind": "ByResolution", "lo": 0.0, "hi": 1.0}}, "config.data.dropping: lo=0.0"),
        ({"resolution": {"kind": "TokenBudget", "tokens": 0}}, "config.data.resolution: tokens=0"),
    ],
)
def test_a_law_that_makes_no_sense_is_named(changes, message):
    config = encode(photographs())
    with pytest.raises(ConfigError, match=message):
        decode(Config, config | {"data": config["data"] | changes})


def test_rates_that_leave_their_range_on_the_way_are_named():
    """Each number is in its range, the mean of the schedule is not below the highest rate."""
    with pytest.raises(ConfigError, match="data.dropping = Schedule"):
        resolved(dropping=Schedule(Beta(0.5, 0.7)))
