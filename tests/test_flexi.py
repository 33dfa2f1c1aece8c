"""One model for all patch sizes: laws of sizes, rows of one size or of several, and what the model makes of them."""

import warnings
from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import rows as rows_module
from data.augment import resize
from data.errors import DataError
from data.laws import (
    AtBudget,
    CoarseToFine,
    Constant,
    Native,
    NeverEnlarged,
    OneSize,
    PerImage,
    PerStep,
    Sides,
    TokenBudget,
)
from data.plan import Packing, Plan, plan_epoch
from data.rows import Epochs, PlannedRows
from data.rules import BestFit, DropSurplus, ExactFit
from data.sources import Arrays
from harness import choose
from harness.config import digits_flexi
from harness.loading import fill_last_batch
from harness.looks import measures
from harness.start import begin, shape_from
from harness.studies.patches import ensemble_gain, ensembles
from harness.studies.similarity import compared
from navit_eqx import load_model, save_model
from navit_eqx import losses as fast_losses
from navit_eqx import resize as fast_resize
from navit_eqx.bridge import to_reference
from navit_eqx.config import Flexi
from navit_eqx.config_json import ConfigError
from navit_eqx.types import to_device
from reference import losses, similarity
from reference.calibration import softmax as probabilities
from reference.layers import norm
from reference.masks import slot_tokens
from reference.model import at_patch_size, forward_image, image_layers
from reference.model import features as slow_features
from reference.packing import pack
from reference.patch_sizes import finest_within, patch_size_at, sample_coarse_to_fine
from reference.patches import normalise, patchify
from reference.pooling import map_pool
from reference.resize import FLEXIVIT, TIMM, adjoint_patches, map_columns, pi_resize, resize_matrix
from reference.types import Row, Tokens
from tests.strategies import CONFIG, PATCH, I, Packed, T, filled, model, seeds, tokens_of
from tests.strategies import rows as packed_rows
from tests.test_meta import caught
from tests.test_plan import holds_every_image_once, per_image, sizes_of
from tests.test_studies import synthetic
from tests.tolerances import FLOAT64, GRADIENT64, assert_close

FAST = model()
PARAMS = to_reference(FAST)
SIZES = (2, 3, 4)
HALF = 2e-3  # logits from patches stored in float16
SHAPES = [(4, 7), (8, 6), (6, 9), (7, 5), (8, 9), (4, 12), (12, 4), (6, 6), (9, 5), (5, 11)]
rng = np.random.default_rng(3)
IMAGES = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in SHAPES]
ARRAYS = Arrays(IMAGES, np.arange(len(IMAGES), dtype=np.int32), classes=tuple("0123456789"))

laws_of_sizes = st.sampled_from(
    [
        OneSize(8),
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
    with pytest.raises(ValueError, match="as many positive weights"):
        PerImage(sizes, weights).sample(rng, np.arange(3), len)


@given(seed=seeds, mix=st.floats(0, 1), images=st.integers(1, 300))
def test_a_curriculum_goes_from_coarse_to_fine(seed, mix, images):
    seen = np.arange(images)
    q = sample_coarse_to_fine(np.random.default_rng(seed), seen / images, mix)
    assert (q >= (1 - mix) * seen / images).all() and (q <= (1 - mix) * seen / images + mix).all()
    strict = CoarseToFine(PerImage((4, 8, 16)), images=images, mix=0).sample(np.random.default_rng(seed), seen, len)
    assert (np.diff(strict) <= 0).all()
    assert all(abs((strict == size).sum() - images / 3) <= 1 for size in (4, 8, 16))


def test_a_curriculum_beyond_its_end_is_fine():
    law = CoarseToFine(PerImage((4, 8, 16)), images=10, mix=0)
    assert law.sample(rng, np.array([0, 9, 10, 1000]), len).tolist() == [16, 4, 4, 4]


@given(seed=seeds, budget=st.integers(1, 200))
def test_the_finest_size_within_a_budget(seed, budget):
    sizes, images = (8, 24, 16, 12), sizes_of(seed, 30, 100.0)
    tokens = np.stack([Native().grids(rng, images, size).prod(-1) for size in sizes])
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
    np.testing.assert_array_equal(grids, TokenBudget(budget).grids(rng, images, 16))
    assert {*patch_sizes.tolist()} <= {8, 16}


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
    for step in plan.patch_sizes.reshape(-1, step_rows * plan.kept.shape[1]):
        assert len({*step.tolist()}) == 1
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
    again = planned(sizes, law, fill=fill, **settings)
    assert all(np.array_equal(a, b) for a, b in zip(plan[:4], again[:4]))
    if fill != "resolution":  # an image at the size it got has the grid that its resolution gives it
        known = planned(sizes, law, **settings)
        patch_sizes = per_image(known, known.patch_sizes, count)
        for size in {*patch_sizes.tolist()} - {0}:
            alone = planned(sizes, OneSize(size), **settings)
            here = patch_sizes == size
            grids = per_image(known, known.grids, count)[here]
            np.testing.assert_array_equal(grids, per_image(alone, alone.grids, count)[here])


def test_one_size_is_a_number():
    sizes = sizes_of(0, 40, 100.0)
    a, b = planned(sizes, OneSize(12)), planned(sizes, 12)
    assert all(np.array_equal(x, y) for x, y in zip(a[:4], b[:4])) and (a.patch_sizes == 12).all()


def test_surplus_images_of_a_step_are_named():
    sizes = sizes_of(0, 200, 60.0)
    plan = planned(sizes, PerStep((8, 16)), rule=DropSurplus())
    assert any("images before it" in reason for _, reason in plan.left_out)
    placed = plan.image_ids[plan.image_ids >= 0].tolist()
    assert sorted(placed + [i for i, _ in plan.left_out]) == list(range(200))


def test_sizes_are_drawn_by_step():
    """Not by image: fine steps hold fewer images, and are as frequent."""
    plan = planned(sizes_of(0, 1500, 100.0), PerStep((8, 16)), step_rows=4)
    steps = plan.patch_sizes[::4, 0]
    share = (steps == 8).mean()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(len(steps))
    assert ((plan.patch_sizes == 8) & (plan.image_ids >= 0)).sum() < 0.6 * (
        (plan.patch_sizes == 16) & (plan.image_ids >= 0)
    ).sum()


def test_rows_that_fill_a_batch_keep_the_size_of_the_last():
    plan = fill_last_batch(planned(sizes_of(0, 40, 100.0), PerStep((8, 16)), step_rows=3), 7)
    assert len(plan.kept) % 7 == 0 and (plan.patch_sizes > 0).all()
    assert plan.patch_sizes[-1, 0] == plan.patch_sizes[plan.image_ids[:, 0] >= 0][-1, 0]


# rows ---------------------------------------------------------------------------------------------


def plan_of(law) -> Plan:
    return plan_epoch(
        ARRAYS.manifest.sizes, seed=1, epoch=0, patch_size=law, resolution=Native(), dropping=Constant(0.2),
        packing=Packing(T, I), longest_side=6, step_rows=1,
    ).complete()  # fmt: skip


def rows_of(plan: Plan, interpolation=None) -> PlannedRows:
    count = len(plan.image_ids)
    return PlannedRows(ARRAYS, Epochs(lambda epoch: plan), count, PATCH, T, 1, None, interpolation=interpolation)


MIXED, STEPS = plan_of(PerImage(SIZES)), plan_of(PerStep((2, 3)))


def exact(patches, base, size, interpolation):
    """What `base_patches` rounds."""
    return adjoint_patches(normalise(patches), base, size, interpolation)


@eqx.filter_jit
def compiled(row):
    return FAST(row)


def forward(row: Row) -> np.ndarray:
    """In float64 from the pixels on: one compiled program for each patch size."""
    return np.asarray(compiled(to_device(row._replace(patches=normalise(row.patches).astype(float)))))


def sees_each_image_at_its_size(rows: PlannedRows, limit: float = FLOAT64) -> None:
    """Each image of each row gets what a plain ViT, its kernel resized to the image's patches, gives it alone."""
    for r in range(len(rows)):
        _, plan, _ = rows.epochs.locate(r)
        row = rows[r]
        logits = forward(row)
        for slot in np.flatnonzero(plan.image_ids[r] >= 0):
            image = IMAGES[plan.image_ids[r, slot]]
            grid, size = plan.grids[r, slot], int(plan.patch_sizes[r, slot])
            whole = patchify(resize(image, tuple((grid * size).tolist())), (size, size))
            coords = row.coords[row.segment_ids == slot + 1]
            assert (coords < grid).all()
            stay = Tokens(whole.patches[coords @ [grid[1], 1]], coords, whole.grid)
            params = at_patch_size(PARAMS, (PATCH, PATCH), (size, size))
            assert_close(logits[slot], forward_image(params, stay), limit)


def test_plans_of_the_tests_mix_sizes():
    mixed = [{*sizes[ids >= 0].tolist()} for sizes, ids in zip(MIXED.patch_sizes, MIXED.image_ids)]
    assert max(map(len, mixed)) >= 2 and set.union(*mixed) == {*SIZES}
    assert {*STEPS.patch_sizes[:, 0].tolist()} == {2, 3}


def test_rows_of_mixed_sizes(monkeypatch):
    rows = rows_of(MIXED, FLEXIVIT)
    assert rows[0].patches.dtype == np.float16 and rows[0].patches.shape == (T, 3 * PATCH**2)
    sees_each_image_at_its_size(rows, HALF)
    monkeypatch.setattr(rows_module, "base_patches", exact)
    sees_each_image_at_its_size(rows)


def test_rows_of_one_size_a_step():
    """Raw bytes; the shape of the row says which kernel, and there is one compiled program for each size."""
    rows = rows_of(STEPS)
    for r, size in enumerate(STEPS.patch_sizes[:, 0]):
        assert rows[r].patches.dtype == np.uint8 and rows[r].patches.shape == (T, 3 * size**2)
    sees_each_image_at_its_size(rows)


def without_pseudo_inverse(patches, base, size, interpolation):
    """The transpose of vanilla resizing: B instead of its pseudo-inverse."""
    matrices = [resize_matrix(old, new, interpolation).T for old, new in zip(base, size)]
    return map_columns(normalise(patches).T, size, matrices).T


def by_another_interpolation(patches, base, size, interpolation):
    return exact(patches, base, size, TIMM)


def pixels_mapped_first(patches, base, size, interpolation):
    return normalise(
        adjoint_patches(patches.astype(float), base, size, interpolation).round().clip(0, 255).astype(np.uint8)
    )


def by_the_matrix_of_another_size(patches, base, size, interpolation):
    """Of patches cut or repeated to the size before."""
    side = max(SIZES) if size[0] == min(SIZES) else min(SIZES)
    cut = patches.reshape(-1, *size, 3)[:, np.arange(side) % size[0]][:, :, np.arange(side) % size[1]]
    return exact(cut.reshape(len(patches), -1), base, (side, side), interpolation)


@pytest.mark.parametrize(
    "sabotage",
    [without_pseudo_inverse, by_another_interpolation, pixels_mapped_first, by_the_matrix_of_another_size],
)
def test_a_wrong_map(sabotage, monkeypatch):
    monkeypatch.setattr(rows_module, "base_patches", sabotage)
    caught(sees_each_image_at_its_size, rows_of(MIXED, FLEXIVIT), HALF)


def test_coordinates_of_another_grid(monkeypatch):
    """Those that the image would have at the model's own patch size."""

    def careless(image, patch_size):
        patches, coords, grid = patchify(image, patch_size)
        return Tokens(patches, (coords * patch_size[0] // PATCH).astype(np.int32) % 6, grid)

    monkeypatch.setattr(rows_module, "base_patches", exact)
    monkeypatch.setattr(rows_module, "patchify", careless)
    caught(sees_each_image_at_its_size, rows_of(MIXED, FLEXIVIT))


def test_a_row_without_a_readable_image_has_the_shape_of_its_step():
    ids = np.full((1, I), -1, np.int32)
    nothing = Plan(ids, np.zeros((1, I, 2), np.int32), np.zeros((1, I), np.int32), np.full((1, I), 3), ())
    assert rows_of(nothing)[0].patches.shape == (T, 27)
    mapped = rows_of(nothing, FLEXIVIT)[0].patches
    assert mapped.shape == (T, 3 * PATCH**2) and mapped.dtype == np.float16


def test_at_its_own_size_the_model_is_unchanged():
    assert FAST.embedding(3 * PATCH**2) is FAST.embed
    again = at_patch_size(PARAMS, (PATCH, PATCH), (PATCH, PATCH))
    assert_close(again["embed"]["w"], PARAMS["embed"]["w"], FLOAT64)
    with pytest.raises(ValueError, match="13 numbers are no square patch"):
        FAST.embedding(13)


# configuration ------------------------------------------------------------------------------------


def test_the_law_takes_its_sizes_from_the_model():
    config = digits_flexi()
    assert choose.patch_law(config) == PerImage(config.model.flexi.sizes)
    several = replace(config.data, patch_sizes=CoarseToFine(PerStep((8, 16))))
    assert choose.patch_law(replace(config, data=several)) == several.patch_sizes
    assert choose.patch_law(replace(config, data=replace(config.data, patch_sizes=OneSize()))) == OneSize(8)
    with pytest.raises(ConfigError, match="set model.flexi"):
        choose.patch_law(replace(config, model=replace(config.model, flexi=None)))
    with pytest.raises(ConfigError, match="set model.flexi.sizes"):
        choose.patch_law(replace(config, model=replace(config.model, flexi=Flexi())))
    with pytest.raises(ConfigError, match="different positive"):
        Flexi((8, 8))


def test_noisy_sizes_are_warned_of():
    config = digits_flexi()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (note,) = choose.about_patches(choose.patch_law(config), config)
    assert "4, 6, 8, 10, 12, 14 with a kernel of 8: one per image" in note
    with pytest.warns(UserWarning, match=r"\(17, 17\): 8.5"):
        choose.about_patches(PerStep((8, 17)), replace(config, model=replace(config.model, patch_size=16)))


@pytest.mark.parametrize("law", [PerStep(), CoarseToFine(PerStep()), AtBudget(40)], ids=lambda law: law.per)
def test_what_is_open_is_chosen(law):
    """About as many tokens a step as planned, and a curriculum as long as the run."""
    config = digits_flexi()
    source = replace(config.data.source, train_images=2000)
    config = replace(config, data=replace(config.data, source=source, patch_sizes=law, packing=Packing(416)), steps=0)
    manifest = source.open("", "train").manifest
    resolved, _ = choose.resolve(config, manifest)
    images = getattr(resolved.data.patch_sizes, "images", None)
    assert images is None or 0.99 < images / (choose.EPOCHS * 2000) < 1.01
    assert resolved.data.packing.row_images >= 4


def test_a_run_can_make_a_saved_model_flexible(tmp_path):
    """Its kernel, at the patch size of the run, gives the tokens of the saved one at that size."""
    fixed = replace(CONFIG, classes=3, dtype="float32")
    saved = filled(fixed, 0, "float32")
    save_model(tmp_path, saved, fixed, {"classes": ["a", "b", "c"]})
    run = replace(digits_flexi(), start=str(tmp_path))
    run = replace(run, model=replace(run.model, patch_size=3, flexi=Flexi((2, 3, 4)), dtype="float32", classes=3))
    config, notes = shape_from(run)
    assert (config.model.width, config.model.patch_size) == (CONFIG.width, 3) and config.model.flexi == run.model.flexi
    assert "the kernel of 2, PI-resized" in notes[1]
    begun = begin(filled(config.model, 1, "float32"), config, ("a", "b", "c"))
    assert_close(begun.embed.w, pi_resize(np.asarray(saved.embed.w, float), (2, 2), (3, 3)), 1e-6)
    np.testing.assert_array_equal(begun.head.w, saved.head.w)

    save_model(tmp_path, begun, replace(config.model, flexi=Flexi((2, 3), fast_resize.TIMM)), {"classes": []})
    with pytest.raises(ConfigError, match="set model.flexi.interpolation to the saved one"):
        shape_from(run)
    again = load_model(tmp_path)[0]
    assert again.interpolation == fast_resize.TIMM and again.patch_size == 3


# evaluation ---------------------------------------------------------------------------------------


def test_the_mean_of_several_looks_is_compared_at_its_cost():
    """Two sizes at one resolution, each right where the other hesitates: together always right, at the sum of costs."""
    right = np.arange(20) % 2 == 0
    fine, coarse = synthetic(~right, 2e9, ~right), synthetic(right, 1e9, right)

    def gain(*looks) -> float:
        rows = [{**measures(look), **several} for look, several in zip(looks, ensembles([*looks], 1, probabilities))]
        assert rows[-1]["ensemble"] == rows[-1]["accuracy"], "of the coarsest size alone"
        return ensemble_gain(rows)

    assert gain(fine, coarse) == 0.5
    always = np.ones(20)
    assert gain(synthetic(always, 3e9), fine, coarse) == 0.0, "a look at this cost is as good"
    assert gain(synthetic(always, 4e9), fine, coarse) == 0.5, "a look at a higher cost is no match"
    of_each_resolution = ensembles([fine, synthetic(always, 5e9), coarse, synthetic(always, 4e9)], 2, probabilities)
    assert [(e["ensemble"], e["ensemble_gflops"]) for e in of_each_resolution] == [(1, 3), (1, 9), (0.5, 1), (1, 4)]


def test_an_ensemble_is_of_probabilities_not_of_logits():
    """One size is sure by far, two are not: the mean of logits would follow the loudest."""
    loud = synthetic(np.zeros(4), 1e9)._replace(output=np.eye(10)[[1] * 4] * 50.0)
    quiet = [synthetic(np.ones(4), 1e9)._replace(output=np.eye(10)[[0] * 4] * 6.0) for _ in range(2)]
    assert ensembles([loud, *quiet], 1, probabilities)[0]["ensemble"] == 1.0


# distillation -------------------------------------------------------------------------------------


@jax.jit
def with_gradient(logits, teacher, labels):
    """The loss and its count, and the gradient of the loss."""
    value = fast_losses.kl_divergence(logits, teacher, labels)
    return value, jax.grad(lambda x: fast_losses.kl_divergence(x, teacher, labels)[0])(logits)


@given(seed=seeds, scale=st.sampled_from([0.1, 1.0, 50.0]))
def test_divergence(seed, scale):
    draw = np.random.default_rng(seed)
    logits, teacher = scale * draw.normal(size=(2, I, 7))
    labels = draw.integers(-1, 3, I)
    got, count = losses.kl_divergence(logits, teacher, labels)
    assert got >= -1e-12 and count == (labels >= 0).sum()
    same, _ = losses.kl_divergence(logits, logits + draw.normal(size=(I, 1)), labels)
    assert abs(same) < 1e-10, "equal up to a constant is equal"
    (fast, fast_count), gradient = with_gradient(logits, teacher, labels)
    assert abs(float(fast) - got) <= 1e-10 * max(1, abs(got)) and int(fast_count) == count
    difference = (probabilities(logits) - probabilities(teacher)) * (labels >= 0)[:, None]
    assert np.abs(np.asarray(gradient) - difference).max() <= GRADIENT64


def test_divergence_is_not_symmetric():
    """KL(teacher ‖ student): a student must not deny what the teacher thinks possible."""
    student, teacher = np.array([[9.0, 0.0]]), np.array([[0.0, 0.0]])
    labels = np.zeros(1, int)
    forgets, hesitates = (losses.kl_divergence(a, b, labels)[0] for a, b in ((student, teacher), (teacher, student)))
    assert forgets > 5 * hesitates


# similarity ---------------------------------------------------------------------------------------


@given(seed=seeds, scale=st.floats(0.01, 100))
def test_cka_sees_no_rotation_scale_or_shift(seed, scale):
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=(12, 5)), draw.normal(size=(12, 8))
    turn = np.linalg.qr(draw.normal(size=(5, 5)))[0]
    assert abs(similarity.linear_cka(x, scale * x @ turn + 3) - 1) < 1e-9
    assert abs(similarity.linear_cka(x, y) - similarity.linear_cka(scale * x @ turn - 1, y)) < 1e-9
    assert 0 <= similarity.linear_cka(x, y) < 1
    assert similarity.linear_cka(x, y) == pytest.approx(similarity.linear_cka(y, x))


def test_cka_of_unrelated_features_is_small():
    draw = np.random.default_rng(0)
    assert similarity.linear_cka(draw.normal(size=(2000, 4)), draw.normal(size=(2000, 4))) < 0.02


def test_tokens_are_most_like_themselves():
    x = np.random.default_rng(0).normal(size=(9, 6))
    order = np.random.default_rng(1).permutation(9)
    table = similarity.token_similarity(x, 3 * x[order])
    np.testing.assert_array_equal(table.argmax(-1), np.argsort(order))
    assert_close(table.max(-1), np.ones(9), FLOAT64)


@given(
    seed=seeds,
    grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    common=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_tokens_on_another_grid_lie_at_their_places(seed, grid, common):
    tokens = np.random.default_rng(seed).normal(size=(*grid, 3))
    assert_close(similarity.on_grid(tokens, grid), tokens.reshape(-1, 3), FLOAT64)
    assert_close(similarity.on_grid(np.ones_like(tokens), common), np.ones((common[0] * common[1], 3)), FLOAT64)
    turned = similarity.on_grid(tokens.swapaxes(0, 1), common[::-1]).reshape(common[1], common[0], 3)
    assert_close(turned.swapaxes(0, 1).reshape(-1, 3), similarity.on_grid(tokens, common), FLOAT64)
    places = np.broadcast_to((np.arange(8)[:, None, None] + 0.5) / 8, (8, 8, 1))
    (top,), (bottom,) = similarity.on_grid(places, (2, 1))
    assert 0.2 < top < 0.3 and 0.7 < bottom < 0.8


@jax.jit
def layers_of(row):
    return FAST.layers(row)


@given(packed=packed_rows())
def test_layers_of_a_packed_row_are_those_of_each_image_alone(packed):
    found = np.asarray(layers_of(to_device(packed.row)))
    assert len(found) == CONFIG.depth + 1
    for slot, image in enumerate(packed.images):
        here = packed.row.segment_ids == slot + 1
        assert_close(found[:, here], image_layers(PARAMS, image), FLOAT64)


def ends_in_the_output(layers, packed) -> None:
    """The last layer through the last norm and the pool is what the classifier gets."""
    last = norm(PARAMS["encoder"]["norm"], layers[-1])
    slots = slot_tokens(packed.row.segment_ids, I)
    vectors = map_pool(PARAMS["pool"], last, slots, np.zeros((I, 0, CONFIG.width)))
    count = len(packed.images)
    assert_close(vectors[:count], slow_features(PARAMS, packed.row)[:count], FLOAT64)


def test_the_last_layer_is_the_output():
    """And no other one is."""
    images = [tokens_of(np.random.default_rng(0), grid) for grid in ((2, 3), (3, 4))]
    packed = Packed(pack(images, [0, 1], [0, 1], T, I), images)
    found = np.asarray(layers_of(to_device(packed.row)))
    ends_in_the_output(found, packed)
    caught(ends_in_the_output, found[:-1], packed)
    caught(ends_in_the_output, np.roll(found, 1, axis=1), packed)


def test_places_are_compared_place_by_place():
    """A size with itself is alike; with its tokens moved by a place it is the same nowhere."""
    tokens = {i: np.random.default_rng(i).normal(size=(3, 6, 8)) for i in range(20)}
    moved = {i: np.roll(x, 1, axis=1) for i, x in tokens.items()}
    for layer in compared(tokens, tokens, sorted(tokens)):
        assert layer["cka"] == pytest.approx(1) and layer["same_place"] == 1
    for layer in compared(tokens, moved, sorted(tokens)):
        assert layer["cka"] < 0.5 and layer["same_place"] == 0
