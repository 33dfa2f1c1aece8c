"""Laws of patch sizes, and plans in which images, steps or the run have one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.evaluation_plan import fill_last_batch
from data.plan import Plan, plan_epoch
from data.sampling.dropping import Constant
from data.sampling.packing import BestFit, DropSurplus, ExactFit, Packing
from data.sampling.patch_size import AtBudget, CoarseToFine, OneSize, PerImage, PerStep
from data.sampling.resolution import Native, NeverEnlarged, Sides, TokenBudget
from reference.sampling.patch_sizes import finest_within, patch_size_at, sample_coarse_to_fine
from tests.support.plans import equal, holds_every_image_once, per_image, sizes_of
from tests.support.strategies import seeds

rng = np.random.default_rng(3)

laws_of_sizes = st.sampled_from(
    [
        OneSize((8, 8)),
        OneSize((6, 14)),
        PerImage((8, 12, 16)),
        PerImage((6, 20), (3.0, 1.0)),
        PerStep((8, 12, 16)),
        CoarseToFine(PerImage((8, 16)), images=80, mix=0.3),
        CoarseToFine(PerStep((8, 12, 16)), images=80, mix=0.3),
        AtBudget(30, (8, 12, 16, 24)),
    ]
)


resolutions = st.sampled_from([Sides(48, 160), Native(0.5, 1.5), NeverEnlarged(TokenBudget(30))])


# laws ---------------------------------------------------------------------------------------------


@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=seeds)
def test_sizes_have_the_shares_of_their_weights(weights, seed):
    sizes = np.random.default_rng(seed).permutation(np.arange(2, 40))[: len(weights)].tolist()
    count = 10 * sum(weights)
    drawn = patch_size_at((np.arange(count) + 0.5) / count, sizes, weights)
    assert [(drawn == size).sum() for size in sizes] == [10 * w for w in weights]
    assert (np.diff(drawn) <= 0).all(), "coarse to fine"
    np.testing.assert_array_equal(patch_size_at(np.array([0.0, 1.0]), sizes, weights), [max(sizes), min(sizes)])


@pytest.mark.parametrize("sizes, weights", [((), ()), ((4, 8), (1.0,)), ((4, 8), (1.0, 0.0)), ((0, 8), ())])
def test_laws_that_make_no_sense(sizes, weights):
    """By the formula, and by the options; a law whose sizes are open draws nothing."""
    with pytest.raises(ValueError, match="as many positive weights"):
        patch_size_at(np.zeros(3), sizes, weights)
    with pytest.raises(ValueError, match="weights|sizes=0 must be in"):
        PerImage(sizes, weights).sample(rng, np.arange(3), len)


def test_sizes_that_are_equal_are_refused():
    with pytest.raises(ValueError, match="different numbers of pixels"):
        PerImage((8, 8))


@given(seed=seeds, mix=st.floats(0, 1), images=st.integers(1, 300))
def test_a_curriculum_goes_from_coarse_to_fine(seed, mix, images):
    seen = np.arange(images)
    q = sample_coarse_to_fine(np.random.default_rng(seed), seen / images, mix)
    assert (q >= (1 - mix) * seen / images).all() and (q <= (1 - mix) * seen / images + mix).all()
    law = CoarseToFine(PerImage((4, 8, 16)), images=images, mix=0)
    strict, width = law.sample(np.random.default_rng(seed), seen, len).T
    np.testing.assert_array_equal(width, strict)
    assert (np.diff(strict) <= 0).all()
    assert all(abs((strict == size).sum() - images / 3) <= 1 for size in (4, 8, 16))


def test_a_curriculum_beyond_its_end_is_fine():
    law = CoarseToFine(PerImage((4, 8, 16)), images=10, mix=0)
    assert law.sample(rng, np.array([0, 9, 10, 1000]), len).tolist() == [[16, 16], [4, 4], [4, 4], [4, 4]]


@given(seed=seeds, budget=st.integers(1, 200))
def test_the_finest_size_within_a_budget(seed, budget):
    sizes, images = (8, 24, 16, 12), sizes_of(seed, 30, 100.0)
    tokens = np.stack([Native().grids(rng, images, (size, size)).prod(-1) for size in sizes])
    chosen = finest_within(tokens, sizes, budget)
    for i, size in enumerate(chosen):
        has = dict(zip(sizes, tokens[:, i]))
        assert has[size] <= budget or size == 24
        assert all(has[finer] > budget for finer in sizes if finer < size)


@given(seed=seeds, budget=st.integers(4, 90))
def test_a_token_budget_buys_pixels_by_patch_size(seed, budget):
    """`PerImage` with `TokenBudget` is the law at a budget: as many tokens at every patch size, more pixels."""
    images = sizes_of(seed, 20)
    plan = planned(images, PerImage((8, 16)), resolution=TokenBudget(budget), seed=seed)
    grids, patch_sizes = per_image(plan, plan.grids, 20), per_image(plan, plan.patch_sizes, 20)
    np.testing.assert_array_equal(grids, TokenBudget(budget).grids(rng, images, (16, 16)))
    assert {*map(tuple, patch_sizes.tolist())} <= {(8, 8), (16, 16)}


# plans --------------------------------------------------------------------------------------------


OWN, RULE = Native(), ExactFit(8)


def planned(sizes, law, *, resolution=OWN, rule=RULE, seed=0, epoch=0, step_rows=3, fill="none") -> Plan:
    return plan_epoch(
        sizes, seed=seed, epoch=epoch, patch_size=law, resolution=resolution, dropping=Constant(0.2),
        packing=Packing(90, 6, rule, fill), longest_side=30, step_rows=step_rows,
    )  # fmt: skip


def has_one_size_a_step(plan: Plan, step_rows: int) -> None:
    """Whole steps, one size in each; empty rows at the end alone, unless images that fit nowhere were in the way."""
    assert len(plan.kept) % step_rows == 0
    for step in plan.patch_sizes.reshape(-1, step_rows * plan.kept.shape[1], 2):
        assert (step == step[0]).all()
    empty = (plan.image_ids < 0).all(-1)
    assert plan.left_out or not empty[: len(empty) - step_rows + 1].any()


@given(
    seed=seeds,
    count=st.integers(1, 60),
    epoch=st.integers(0, 3),
    law=laws_of_sizes,
    resolution=resolutions,
    rule=st.sampled_from([ExactFit(8), BestFit(8)]),
    step_rows=st.integers(1, 4),
    fill=st.sampled_from(["none", "rate", "resolution"]),
)
def test_every_image_stands_in_one_row_at_one_size(seed, count, epoch, law, resolution, rule, step_rows, fill):
    sizes = sizes_of(seed, count, median=100.0)
    settings = dict(resolution=resolution, rule=rule, seed=seed, epoch=epoch, step_rows=step_rows)
    try:
        plan = planned(sizes, law, fill=fill, **settings)
    except DataError as error:
        assert str(error).startswith(f"none of {count} images fits a row")
        return
    if law.per == "step":
        has_one_size_a_step(plan, step_rows)
    rows = (plan.image_ids >= 0).any(-1)
    holds_every_image_once(Plan(*(table[rows] for table in plan[:4]), plan.left_out), count, Packing(90, 6))
    assert equal(plan, planned(sizes, law, fill=fill, **settings))
    if fill != "resolution":  # an image at the size it got has the grid that its resolution gives it
        known = planned(sizes, law, **settings)
        patch_sizes = per_image(known, known.patch_sizes, count)
        for size in {*map(tuple, patch_sizes.tolist())} - {(0, 0)}:
            alone = planned(sizes, OneSize(size), **settings)
            here = (patch_sizes == size).all(-1)
            grids = per_image(known, known.grids, count)[here]
            np.testing.assert_array_equal(grids, per_image(alone, alone.grids, count)[here])


@pytest.mark.parametrize("patch", [(12, 12), (8, 20)])
def test_one_size_is_a_height_and_a_width(patch):
    sizes = sizes_of(0, 40, 100.0)
    plan = planned(sizes, OneSize(patch))
    assert equal(plan, planned(sizes, patch)) and (plan.patch_sizes == patch).all()


def test_surplus_images_of_a_step_are_named():
    sizes = sizes_of(0, 200, 60.0)
    plan = planned(sizes, PerStep((8, 16)), rule=DropSurplus())
    assert any("its row already has 6 images" in reason for _, reason in plan.left_out)
    placed = plan.image_ids[plan.image_ids >= 0].tolist()
    assert sorted(placed + [i for i, _ in plan.left_out]) == list(range(200))


def test_sizes_are_drawn_by_step():
    """Not by image: fine steps hold fewer images, and are as frequent."""
    plan = planned(sizes_of(0, 1500, 100.0), PerStep((8, 16)), step_rows=4)
    steps = plan.patch_sizes[::4, 0, 0]
    share = (steps == 8).mean()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(len(steps))
    fine, coarse = (((plan.patch_sizes[..., 0] == side) & (plan.image_ids >= 0)).sum() for side in (8, 16))
    assert fine < 0.6 * coarse


def test_rows_that_fill_a_batch_keep_the_size_of_the_last():
    plan = fill_last_batch(planned(sizes_of(0, 40, 100.0), PerStep((8, 16)), step_rows=3), 7)
    assert len(plan.kept) % 7 == 0 and (plan.patch_sizes > 0).all()
    np.testing.assert_array_equal(plan.patch_sizes[-1, 0], plan.patch_sizes[plan.image_ids[:, 0] >= 0][-1, 0])
