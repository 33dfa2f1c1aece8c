"""One model for all patch sizes: laws of sizes, rows of one size or of several, and what the model makes of them."""

import warnings
from dataclasses import replace

import equinox as eqx
import numpy as np
import pytest

from data import rows as rows_module
from data.plan import Plan, plan_epoch
from data.rows import PlannedRows
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.patch_size import AtBudget, CoarseToFine, OneSize, PerImage, PerStep
from data.sampling.resolution import Native
from data.sources.decode import resize
from data.sources.source import Arrays
from data.stream import Epochs
from harness import resolve as choose
from harness.evaluation.predictions import measures
from harness.evaluation.studies.patches import ensemble_gain, ensembles
from harness.presets import digits_flexi
from harness.run.warm_start import begin, shape_from
from navit_eqx import load_model, save_model
from navit_eqx import resize as fast_resize
from navit_eqx.config import Flexi
from navit_eqx.errors import ConfigError
from navit_eqx.rows import to_device
from navit_eqx.weights.bridge import to_reference
from reference.evaluation.calibration import softmax as probabilities
from reference.model import at_patch_size, forward_image
from reference.patches import normalize, patchify
from reference.resize import FLEXIVIT, TIMM, adjoint_patches, map_columns, pi_resize, resize_matrix
from reference.rows import Row, Tokens
from tests.support.strategies import CONFIG, PATCH, I, T, filled, model
from tests.test_meta import caught
from tests.test_studies import synthetic
from tests.support.tolerances import FLOAT64, assert_close

FAST = model()
PARAMS = to_reference(FAST)
SIZES = (2, 3, 4)
HALF = 2e-3  # logits from patches stored in float16
SHAPES = [(4, 7), (8, 6), (6, 9), (7, 5), (8, 9), (4, 12), (12, 4), (6, 6), (9, 5), (5, 11)]
rng = np.random.default_rng(3)
IMAGES = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in SHAPES]
ARRAYS = Arrays(IMAGES, np.arange(len(IMAGES), dtype=np.int32), classes=tuple("0123456789"))


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
    return adjoint_patches(normalize(patches), base, size, interpolation)


@eqx.filter_jit
def compiled(row):
    return FAST(row)


def forward(row: Row) -> np.ndarray:
    """In float64 from the pixels on: one compiled program for each patch size."""
    return np.asarray(compiled(to_device(row._replace(patches=normalize(row.patches).astype(float)))))


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
    return map_columns(normalize(patches).T, size, matrices).T


def by_another_interpolation(patches, base, size, interpolation):
    return exact(patches, base, size, TIMM)


def pixels_mapped_first(patches, base, size, interpolation):
    return normalize(
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
    assert FAST.embedding(3 * PATCH**2) is FAST.patch_embedding
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
    with pytest.raises(ConfigError, match="sizes=.* must be"):
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
    assert_close(begun.patch_embedding.w, pi_resize(np.asarray(saved.patch_embedding.w, float), (2, 2), (3, 3)), 1e-6)
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
