"""Plans and laws: every image stands in one row or is named, nothing overflows, and a plan is a pure function."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.evaluation_plan import fill_last_batch, packing_at, plan_evaluation
from data.plan import Plan, epoch_order, images_seen, plan_epoch
from data.randomness import Purpose, generator
from data.sampling.dropping import Beta, ByResolution, Constant, Schedule
from data.sampling.packing import BestFit, DropSurplus, ExactFit, FirstFit, Packing
from data.sampling.patch_size import PerStep
from data.sampling.resolution import (
    Areas,
    Native,
    NeverEnlarged,
    OneSquare,
    Sides,
    Square,
    TokenBudget,
    TruncatedNormal,
)
from data.sources.digits import DigitStrips
from reference.sampling.dropping import kept_tokens
from tests.support import laws
from tests.support.plans import equal, holds_every_image_once, per_image, sizes_of
from tests.support.strategies import seeds
from tests.support.tolerances import PIXEL

SIDE = 16
PATCH = (SIDE, SIDE)
PATCHES = [PATCH, (8, 8), (8, 24), (40, 10)]
patches = st.sampled_from(PATCHES)
PAPER = Packing(row_tokens=256, row_images=16)  # with Sides(64, 256) and Beta(0.5, 0.9): the paper's setting

RULES = {
    "exact_fit": ExactFit(8),
    "best_fit": BestFit(8),
    "first_fit": FirstFit(8),
    "misfits": FirstFit(8, misfits=3),
    "surplus": DropSurplus(FirstFit(8)),
}
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
resolutions = st.one_of(
    st.builds(Sides, st.floats(16, 60), st.floats(60, 160)),
    st.builds(Native, st.floats(0.3, 1), st.floats(1, 2)),
    st.builds(Areas, st.floats(16, 60), st.floats(60, 160), st.builds(TruncatedNormal, st.floats(-1, 1))),
    st.builds(NeverEnlarged, st.builds(TokenBudget, st.integers(1, 90))),
    st.builds(Square, st.builds(Sides, st.floats(16, 60), st.floats(60, 160))),
)
plain = [Constant(0.3), Beta(0.5, 0.9), ByResolution(0.1, 0.9, 4, 100)]
droppings = st.one_of(
    st.builds(Constant, st.floats(0, 0.9)),
    st.sampled_from(plain),
    st.builds(Schedule, st.sampled_from(plain), images=st.floats(1, 500), width=st.sampled_from([-0.2, 0.1])),
)


def paper_plan(sizes: np.ndarray, **changes) -> Plan:
    settings = dict(seed=0, epoch=0, patch_size=PATCH, longest_side=64, packing=PAPER)
    return plan_epoch(sizes, **{**settings, "resolution": Sides(64, 256), "dropping": Beta(0.5, 0.9), **changes})


@rules
@given(
    seed=seeds,
    count=st.integers(1, 60),
    epoch=st.integers(0, 9),
    resolution=resolutions,
    dropping=droppings,
    row_tokens=st.integers(4, 80),
    row_images=st.integers(1, 6),
    longest_side=st.integers(2, 20),
    shuffle=st.booleans(),
    fill=st.sampled_from(["none", "rate", "resolution"]),
    patch=patches,
)
def test_every_image_stands_in_one_row_or_is_named(
    rule, seed, count, epoch, resolution, dropping, row_tokens, row_images, longest_side, shuffle, fill, patch
):
    sizes = sizes_of(seed, count, median=80.0)
    packing = Packing(row_tokens, row_images, rule, fill)
    laws = dict(resolution=resolution, dropping=dropping, packing=packing, longest_side=longest_side)
    settings = dict(seed=seed, epoch=epoch, patch_size=patch, shuffle=shuffle, **laws)
    try:
        plan = plan_epoch(sizes, **settings)
    except DataError as error:
        assert str(error).startswith(f"none of {count} images fits a row")
        return
    holds_every_image_once(plan, count, packing)
    assert plan.grids.max() <= longest_side and (plan.patch_sizes == patch).all()
    assert equal(plan, plan_epoch(sizes, **settings))


def test_another_epoch_or_seed_is_another_order():
    sizes = sizes_of(0, 300)
    orders = [paper_plan(sizes, seed=seed, epoch=epoch).image_ids for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    for a in range(4):
        for b in range(a):
            assert not np.array_equal(orders[a], orders[b])
    turns = [epoch_order(300, seed, epoch).tolist() for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    assert len(set(map(tuple, turns))) == 4, "and not only of the rows, which differ as resolutions do"


def test_the_order_does_not_depend_on_what_is_dropped():
    """Purposes draw from streams of their own: rows differ, sizes do not."""
    sizes = sizes_of(0, 100)
    a, b = paper_plan(sizes), paper_plan(sizes, dropping=Constant(0.1), packing=replace(PAPER, row_tokens=512))
    np.testing.assert_array_equal(per_image(a, a.grids, 100), per_image(b, b.grids, 100))


@given(seed=seeds, dropping=droppings)
def test_without_fill_the_rule_of_the_reference_says_what_stays(seed, dropping):
    sizes = sizes_of(seed, 40)
    plan = paper_plan(sizes, seed=seed, epoch=3, dropping=dropping)
    assert not plan.left_out
    tokens = per_image(plan, plan.grids, 40).prod(-1)
    order = generator(Purpose.ORDER, seed, 3).permutation(40)
    rates = dropping.rates(generator(Purpose.DROPPING, seed, 3, 0), tokens[order], images_seen(3, 40, 0, 40))
    np.testing.assert_array_equal(per_image(plan, plan.kept, 40)[order], kept_tokens(tokens[order], rates))


@given(seed=seeds, count=st.integers(1, 60), blocks=st.integers(1, 5), law=st.sampled_from([PATCH, PerStep((16, 32))]))
def test_the_blocks_of_an_epoch_hold_every_image_once_in_its_order(seed, count, blocks, law):
    blocks = min(blocks, count)
    packing, sizes = replace(PAPER, rule=ExactFit(8)), sizes_of(seed, count)
    plan = partial(paper_plan, sizes, seed=seed, epoch=2, blocks=blocks, packing=packing, patch_size=law, step_rows=2)
    laws.has_every_image_in_its_block([plan(block=b) for b in range(blocks)], epoch_order(count, seed, 2))


def test_a_block_goes_on_where_the_one_before_it_ended():
    """Drop rates follow the images seen, whatever the blocks; everything else is drawn anew for each."""
    law = Schedule(Constant(), images=90)
    whole, *parts = (paper_plan(sizes_of(0, 60), dropping=law, epoch=1, block=b, blocks=n) for b, n in BLOCKS)
    rate = lambda plan: per_image(plan, plan.kept, 60) / np.maximum(1, per_image(plan, plan.grids, 60).prod(-1))
    order, at = epoch_order(60, 0, 1), lambda turns: law.rates(np.random.default_rng(0), turns, 60 + turns)
    assert np.abs(rate(whole)[order] - (1 - at(np.arange(60)))).max() < 1 / 8
    for part, turns in zip(parts, np.split(np.arange(60), 3)):
        assert np.abs(rate(part)[order[turns]] - (1 - at(turns))).max() < 1 / 8


BLOCKS = [(0, 1), (0, 3), (1, 3), (2, 3)]


@rules
@given(seed=seeds, dropping=droppings)
def test_fill_closes_rows_with_dropped_tokens_alone(rule, seed, dropping):
    sizes = sizes_of(seed, 40)
    packing = replace(PAPER, rule=rule)
    plain = paper_plan(sizes, seed=seed, dropping=dropping, packing=packing)
    full = paper_plan(sizes, seed=seed, dropping=dropping, packing=replace(packing, fill="rate"))
    np.testing.assert_array_equal(full.image_ids, plain.image_ids)
    assert (full.kept >= plain.kept).all()
    whole = full.grids.prod(-1)
    np.testing.assert_array_equal(full.kept.sum(-1), np.minimum(256, whole.sum(-1)))


@pytest.mark.parametrize("epochs, blocks", [((0, 0), (0, 1)), ((0, 1), (0, 0))])
def test_blocks_of_an_epoch_draw_each_for_itself(epochs, blocks):
    """Resolutions and drop rates of equal images: others in another block, and in another epoch."""

    def drawn(epoch: int, block: int) -> list[np.ndarray]:
        laws = ({"resolution": Sides(64, 256)}, {"dropping": Beta(0.1, 0.8)})
        plans = [
            plan_epoch(
                np.full((80, 2), 200, np.int32), seed=3, epoch=epoch, block=block, blocks=2, patch_size=(8, 8),
                packing=Packing(1024, 16), longest_side=32,
                **{"resolution": Sides(128, 128), "dropping": Constant(0.0)} | law,
            )
            for law in laws
        ]  # fmt: skip
        return [np.sort(plan.kept[plan.image_ids >= 0]) for plan in plans]

    one, other = (drawn(*place) for place in zip(epochs, blocks))
    for a, b in zip(one, other):
        assert len(a) == len(b) == 40 and not np.array_equal(a, b)


@pytest.mark.parametrize("rule, plain, filled", [(ExactFit(), 0.005, 0.001), (BestFit(), 0.05, 0.005)])
def test_padding_is_rare(rule, plain, filled):
    """On 3,000 photos in the paper's setting: the share of empty places, at most."""
    sizes = sizes_of(0, 3_000)
    for fill, most in (("none", plain), ("rate", filled)):
        plan = paper_plan(sizes, packing=replace(PAPER, rule=rule, fill=fill))
        holds_every_image_once(plan, 3_000, PAPER)
        assert plan.padding(256) <= most


def test_fill_keeps_the_drop_rate():
    """Mean of Beta(0.5, 0.9) over 5,000 images: above 0.5 by less than 0.02, as kept tokens are rounded down;
    closing rows by the rate lowers it by less than 0.005 on average."""
    sizes = sizes_of(1, 5_000)
    rate = {}
    for fill in ("none", "rate"):
        plan = paper_plan(sizes, packing=replace(PAPER, fill=fill))
        used = plan.image_ids >= 0
        rate[fill] = float(np.mean(1 - plan.kept[used] / plan.grids[used].prod(-1)))
    assert 0 < rate["none"] - 0.5 < 0.02
    assert 0 <= rate["none"] - rate["rate"] < 0.005


def test_where_nothing_fits_the_first_image_says_why():
    sizes = np.full((3, 2), 160, np.int32)
    with pytest.raises(DataError, match="none of 3 images.*10 x 10 patches keep 100 tokens, a row holds 99"):
        paper_plan(sizes, resolution=Native(), dropping=Constant(), packing=Packing(99, 4))
    with pytest.raises(DataError, match="none of 3 images.*positions end at 9 a side"):
        paper_plan(sizes, resolution=Native(), dropping=Constant(), longest_side=9)


def test_complete_names_the_image_that_was_left_out():
    sizes = np.array([[16, 16], [16, 16 * 65], [16, 16]], np.int32)
    plan = paper_plan(sizes, resolution=Native(), dropping=Constant())
    assert plan.left_out[0][0] == 1 and (plan.image_ids >= 0).sum() == 2
    with pytest.raises(DataError, match="image 1 fits no row: 1 x 65 patches, but positions end at 64"):
        plan.complete()
    whole = paper_plan(sizes[:1], resolution=Native(), dropping=Constant())
    assert whole.complete() is whole


@rules
@given(seed=seeds, count=st.integers(1, 60), resolution=st.floats(32, 400))
def test_evaluation_drops_nothing_and_has_every_image_once(rule, seed, count, resolution):
    sizes, law = sizes_of(seed, count), Sides(64, 256).at(resolution)
    packing = packing_at(replace(PAPER, rule=rule, fill="rate"), law, sizes, PATCH, longest_side=200)
    plan = plan_evaluation(sizes, patch_size=PATCH, resolution=law, packing=packing, longest_side=200)
    holds_every_image_once(plan.complete(), count, packing)
    np.testing.assert_array_equal(plan.kept, plan.grids.prod(-1))
    assert packing.row_tokens >= PAPER.row_tokens


def test_evaluation_keeps_the_order_of_the_manifest():
    sizes = np.full((10, 2), 64, np.int32)
    plan = plan_evaluation(sizes, patch_size=PATCH, resolution=Native(), packing=Packing(48, 8), longest_side=9)
    assert plan.image_ids[plan.image_ids >= 0].tolist() == list(range(10))


@given(count=st.integers(1, 40), rows=st.integers(1, 9))
def test_the_last_batch_is_filled_with_empty_rows(count, rows):
    plan = paper_plan(sizes_of(count, count), packing=Packing(256, 3))
    full = fill_last_batch(plan, rows)
    had, has = len(plan.image_ids), len(full.image_ids)
    assert has % rows == 0 and 0 <= has - had < rows
    for before, after, empty in zip(plan[:3], full[:3], (-1, 0, 0)):
        np.testing.assert_array_equal(after[:had], before)
        assert (after[had:] == empty).all() and after.dtype == before.dtype


def is_whole_patches_of(grids: np.ndarray, ideal: np.ndarray, patch: tuple[int, int]) -> None:
    """The most whole patches within the ideal size, at least one a side."""
    seen = grids * patch
    assert ((seen <= np.maximum(patch, ideal + PIXEL)) & (seen > ideal - patch)).all()


@given(seed=seeds, resolution=st.floats(32, 400), patch=patches)
def test_sides_at_is_that_area_at_the_aspect_of_the_image(seed, resolution, patch):
    sizes = sizes_of(seed, 50)
    law = Sides(1, 2).at(resolution)
    assert law == Sides(resolution, resolution)
    ideal = resolution * sizes / np.sqrt(sizes.prod(-1, dtype=float))[:, None]
    is_whole_patches_of(law.grids(np.random.default_rng(0), sizes, patch), ideal, patch)


@given(seed=seeds, factor=st.floats(0.1, 3), patch=patches)
def test_native_at_is_a_factor_of_the_size(seed, factor, patch):
    sizes = sizes_of(seed, 50)
    law = Native(1, 2).at(factor)
    is_whole_patches_of(law.grids(np.random.default_rng(0), sizes, patch), factor * sizes, patch)


@pytest.mark.parametrize("patch", PATCHES, ids=str)
def test_native_sees_whole_patches_as_they_are(patch):
    sizes = np.array([[1, 8], [3, 7], [8, 1]], np.int32) * np.array(patch, np.int32)
    np.testing.assert_array_equal(Native().grids(np.random.default_rng(0), sizes, patch) * patch, sizes)


@given(seed=seeds, law=st.sampled_from([Sides(64, 256), Native(0.5, 1.0)]), patch=patches)
def test_square_has_about_the_tokens_of_the_law_it_wraps(seed, law, patch):
    """A square of pixels: as many patches a side as it has, to the nearest whole one."""
    sizes = sizes_of(seed, 50)
    wrapped = law.grids(np.random.default_rng(seed), sizes, patch).prod(-1)
    grids = Square(law).grids(np.random.default_rng(seed), sizes, patch)
    assert (grids >= 1).all() and (patch[0] != patch[1] or (grids[:, 0] == grids[:, 1]).all())
    side = np.sqrt(wrapped * np.prod(patch))[:, None]
    assert (np.abs(grids - np.maximum(1, side / patch)) <= 0.5).all()
    assert Square(law).at(96.0) == Square(law.at(96.0))


@given(seed=seeds, side=st.integers(16, 300), patch=st.sampled_from([*PATCHES, np.array([[8, 8], [16, 4]] * 25)]))
def test_one_square_is_the_same_for_every_image(seed, side, patch):
    grids = OneSquare(side).grids(np.random.default_rng(seed), sizes_of(seed, 50), patch)
    np.testing.assert_array_equal(grids, np.broadcast_to(np.maximum(1, side // np.array(patch)), (50, 2)))
    assert OneSquare(side).at(96.0) == OneSquare(96.0) and OneSquare(side).spread == (side, side)


@given(seed=seeds, budget=st.integers(1, 400), patch=patches)
def test_a_budget_is_filled_whatever_the_patch(seed, budget, patch):
    """As many tokens as the same image would have, in square patches, were it stretched by the patch's shape."""
    sizes = sizes_of(seed, 50)
    grids = TokenBudget(budget).grids(np.random.default_rng(seed), sizes, patch)
    stretched = sizes * np.array(patch[::-1], np.int32)
    np.testing.assert_array_equal(grids, TokenBudget(budget).grids(np.random.default_rng(seed), stretched, (1, 1)))
    assert (grids.prod(-1) <= budget).all()


@given(seed=seeds, lo=st.floats(32, 100), hi=st.floats(100, 300))
def test_sides_stay_within_their_range(seed, lo, hi):
    squares = np.full((200, 2), 77, np.int32)
    seen = Sides(lo, hi).grids(np.random.default_rng(seed), squares, (1, 1))
    assert np.floor(lo) <= seen.min() and seen.max() <= hi


def test_no_two_purposes_share_a_stream():
    """NumPy takes [1, 1] and [1, 1, 0] for the same seed; purposes keep streams apart all the same."""
    assert np.random.default_rng([1, 1]).random() == np.random.default_rng([1, 1, 0]).random()
    places = [(purpose, a, b) for purpose in Purpose for a in range(3) for b in range(3)]
    first = {generator(*place).random() for place in places}
    first |= {generator(purpose, 0, 0, 1).random() for purpose in Purpose}
    assert len(first) == len(places) + len(Purpose)


@pytest.mark.parametrize("seed", range(3))
def test_epochs_of_digit_strips_are_alike(seed):
    """Sizes are drawn apart from contents: every epoch has about the same mean length and next to no padding."""
    sizes = DigitStrips("train", 5_000, 0).manifest.sizes
    packing = Packing(96, 16)
    plans = [
        plan_epoch(
            sizes, seed=seed, epoch=e, patch_size=(8, 8), resolution=Native(0.8, 1.4), dropping=Constant(0.0),
            packing=packing, longest_side=40,
        )
        for e in range(3)
    ]  # fmt: skip
    rows = [len(plan.kept) for plan in plans]
    assert max(rows) < 1.02 * min(rows)
    assert max(plan.padding(96) for plan in plans) < 0.002
