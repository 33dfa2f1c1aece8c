"""One model for all patch sizes: laws of sizes, rows of one size or of several, and what the model makes of them."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from data import rows as rows_module
from data.plan import Plan
from data.sampling.packing import Packing
from data.sampling.patch_size import AtBudget, CoarseToFine, OneSize, PerImage, PerStep
from data.sources.source import Arrays
from data.tasks.classify import Classify as ClassifyImages
from harness import resolve
from harness.evaluation.predictions import Context, measures
from harness.evaluation.studies.patches import ensemble_gain, ensembles
from harness.lengths import Images, patch_sampling
from harness.presets import digits_flexi
from harness.run.warm_start import shape_from, warm_start
from navit_eqx import load_model, save_model
from navit_eqx import resize as fast_resize
from navit_eqx.config import Flexi
from navit_eqx.errors import ConfigError
from navit_eqx.info import ModelInfo
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import reconfigured
from navit_eqx.weights.bridge import to_reference
from reference.model import at_patch_size, forward_image
from reference.patches import normalize, patchify
from reference.resize import FLEXIVIT, TIMM, adjoint_patches, map_columns, pi_resize, resize_matrix
from reference.rows import Tokens
from tests.support.flexi import FAST, PARAMS, in_its_own_patches, plan_of, rows_of, sees_each_image_at_its_size
from tests.support.laws import caught
from tests.support.predictions import synthetic
from tests.support.strategies import CONFIG, PATCH, I, P, T, backbone, model
from tests.support.tolerances import FLOAT16, FLOAT32, FLOAT64, assert_close

SIZES = (2, 3, 4)


# rows ---------------------------------------------------------------------------------------------


MIXED, STEPS = plan_of(PerImage(SIZES)), plan_of(PerStep((2, 3)))


def exact(patches, base, size, interpolation):
    """What `base_patches` rounds."""
    return adjoint_patches(normalize(patches), base, size, interpolation)


def test_plans_of_the_tests_mix_sizes():
    mixed = [{*map(tuple, sizes[ids >= 0].tolist())} for sizes, ids in zip(MIXED.patch_sizes, MIXED.image_ids)]
    assert max(map(len, mixed)) >= 2 and set.union(*mixed) == {(size, size) for size in SIZES}
    assert {*map(tuple, STEPS.patch_sizes[:, 0].tolist())} == {(2, 2), (3, 3)}


def test_rows_of_mixed_sizes(monkeypatch):
    rows = rows_of(MIXED, FLEXIVIT)
    assert rows[0].patches.dtype == np.float16 and rows[0].patches.shape == (T, P)
    sees_each_image_at_its_size(rows, FLOAT16)
    monkeypatch.setattr(rows_module, "base_patches", exact)
    monkeypatch.setattr(rows_module, "half_of_bytes", normalize)
    sees_each_image_at_its_size(rows)


def test_rows_of_one_size_a_step():
    """Raw bytes; the shape of the row says which kernel, and there is one compiled program for each size."""
    rows = rows_of(STEPS)
    for r, size in enumerate(STEPS.patch_sizes[:, 0]):
        assert rows[r].patches.dtype == np.uint8 and rows[r].patches.shape == (T, 3 * size.prod())
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
    caught(sees_each_image_at_its_size, rows_of(MIXED, FLEXIVIT), FLOAT16)


def test_coordinates_of_another_grid(monkeypatch):
    """Those that the image would have at the model's own patch size."""

    def careless(image, patch_size):
        patches, coords, grid = patchify(image, patch_size)
        return Tokens(patches, (coords * patch_size[0] // PATCH[0]).astype(np.int32) % 6, grid)

    monkeypatch.setattr(rows_module, "base_patches", exact)
    monkeypatch.setattr(rows_module, "patchify", careless)
    caught(sees_each_image_at_its_size, rows_of(MIXED, FLEXIVIT))


def test_a_row_without_a_readable_image_has_the_shape_of_its_step():
    ids = np.full((1, I), -1, np.int32)
    nothing = Plan(ids, np.zeros((1, I, 2), np.int32), np.zeros((1, I), np.int32), np.full((1, I, 2), 3), ())
    assert rows_of(nothing)[0].patches.shape == (T, 27)
    mapped = rows_of(nothing, FLEXIVIT)[0].patches
    assert mapped.shape == (T, P) and mapped.dtype == np.float16


def test_at_its_own_size_the_model_is_unchanged():
    np.testing.assert_array_equal(FAST.patch_embedding_at(P).w, FAST.patch_embedding.w)
    again = at_patch_size(PARAMS, PATCH, PATCH)
    assert_close(again["patch_embedding"]["w"], PARAMS["patch_embedding"]["w"], FLOAT64)
    with pytest.raises(ValueError, match="patches of 13 numbers; this model reads 3 channels and patches of"):
        FAST.patch_embedding_at(13)


def test_a_kernel_need_not_be_square(monkeypatch):
    """Rows mapped to a kernel of 2 x 4: each image means what the kernel, resized to its own patches, makes of it."""
    monkeypatch.setattr(rows_module, "base_patches", exact)
    kernel = (2, 4)
    params = to_reference(backbone(config=replace(CONFIG, patch=kernel)))
    rows = rows_of(MIXED, FLEXIVIT, kernel)
    for r in range(len(rows)):
        row = rows[r]
        assert row.patches.shape == (T, 3 * 8)
        for slot in np.flatnonzero(MIXED.image_ids[r] >= 0):
            here = row.segment_ids == slot + 1
            mapped = Tokens(row.patches[here], row.coords[here], row.grids[slot])
            stay, size = in_its_own_patches(row, MIXED, r, slot)
            want = forward_image(at_patch_size(params, kernel, size), stay)
            assert_close(forward_image(params, mapped), want, FLOAT64)


# configuration ------------------------------------------------------------------------------------


def test_the_law_takes_its_sizes_from_the_model():
    config = digits_flexi()
    assert patch_sampling(config) == PerImage(config.model.flexi.sizes)
    several = replace(config.data, patch_sizes=CoarseToFine(PerStep((8, 16))))
    assert patch_sampling(replace(config, data=several)) == several.patch_sizes
    assert patch_sampling(replace(config, data=replace(config.data, patch_sizes=OneSize()))) == OneSize((8, 8))
    with pytest.raises(ConfigError, match="set model.flexi"):
        patch_sampling(replace(config, model=replace(config.model, flexi=None)))
    with pytest.raises(ConfigError, match="set model.flexi.sizes"):
        patch_sampling(replace(config, model=replace(config.model, flexi=Flexi())))
    with pytest.raises(ConfigError, match="sizes=.* must be"):
        Flexi((8, 8))


def test_noisy_sizes_are_warned_of():
    config = digits_flexi()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resolved, (note,) = resolve.patch_sizes(config, images_of(config))
    assert resolved.data.patch_sizes == PerImage(config.model.flexi.sizes)
    assert "4, 6, 8, 10, 12, 14: the sizes of the model, one per image, with a kernel of 8 x 8" in note
    noisy = replace(config, model=replace(config.model, patch=(16, 16)), data=replace(config.data, patch_sizes=NOISY))
    with pytest.warns(UserWarning, match=r"\(17, 17\): 8.5"):
        resolve.patch_sizes(noisy, images_of(noisy))


NOISY = PerStep((8, 17))


def images_of(config) -> Images:
    return Images(config.data.source.open("", "val").manifest, ClassifyImages())


@pytest.mark.parametrize("law", [PerStep(), CoarseToFine(PerStep()), AtBudget(40)], ids=lambda law: law.per)
def test_what_is_open_is_chosen(law):
    """About as many tokens a step as planned, and a curriculum as long as the run."""
    config = digits_flexi()
    source = replace(config.data.source, train_images=2000)
    config = replace(
        config, data=replace(config.data, source=source, patch_sizes=law, packing=Packing(416)), steps=None
    )
    manifest = source.open("", "train").manifest
    resolved, _ = resolve.resolve(config, manifest, ClassifyImages())
    images = getattr(resolved.data.patch_sizes, "images", None)
    assert images is None or 0.99 < images / (resolve.EPOCHS * 2000) < 1.01
    assert resolved.data.packing.row_images >= 4


def test_a_run_can_make_a_saved_model_flexible(tmp_path):
    """Its kernel, at the patch size of the run, gives the tokens of the saved one at that size."""
    fixed = replace(CONFIG, dtype="float32")
    saved = model(0, fixed, TASK3)
    save_model(tmp_path, saved, ModelInfo(("a", "b", "c")))
    run = replace(digits_flexi(), start=str(tmp_path))
    run = replace(run, model=replace(run.model, patch=(3, 3), flexi=Flexi((2, 3, 4)), dtype="float32"))
    config, notes = shape_from(run)
    assert (config.model.width, config.model.patch) == (CONFIG.width, (3, 3)) and config.model.flexi == run.model.flexi
    assert "the kernel of (2, 2), PI-resized" in " ".join(notes)
    begun = warm_start(model(1, config.model, TASK3), config, ("a", "b", "c"))
    kernels = (m.backbone.patch_embedding.w for m in (begun, saved))
    mine, theirs = (np.asarray(kernel, float) for kernel in kernels)
    assert_close(mine, pi_resize(theirs, (2, 2), (3, 3)), FLOAT32)
    np.testing.assert_array_equal(begun.task.head.w, saved.task.head.w)

    other = replace(config.model, flexi=Flexi((2, 3), fast_resize.TIMM))
    save_model(tmp_path, reconfigured(begun, other), ModelInfo(("a", "b", "c")))
    with pytest.raises(ConfigError, match="set model.flexi.interpolation to the saved one"):
        shape_from(run)
    again = load_model(tmp_path).config
    assert again.interpolation == fast_resize.TIMM and again.patch == (3, 3)


TASK3 = Classify(classes=3)


# evaluation ---------------------------------------------------------------------------------------


def together(predictions: list, resolutions: int) -> list[dict]:
    """`ensembles` of predictions of images that are all of class 0."""
    count = len(predictions[0].image_ids)
    source = Arrays([np.zeros((1, 1, 3), np.uint8)] * count, np.zeros(count, np.int32), tuple("0123456789"))
    context = Context(model(), digits_flexi(), source, ClassifyImages(), (1.0,))
    return ensembles(context, predictions, resolutions)


def test_the_mean_of_several_sizes_is_compared_at_its_cost():
    """Two sizes at one resolution, each right where the other hesitates: together always right, at the sum of costs."""
    right = np.arange(20) % 2 == 0
    fine, coarse = synthetic(~right, 2e9, ~right), synthetic(right, 1e9, right)

    def gain(*predictions) -> float:
        rows = [{**measures(seen), **several} for seen, several in zip(predictions, together([*predictions], 1))]
        assert rows[-1]["ensemble"] == rows[-1]["score"], "of the coarsest size alone"
        return ensemble_gain(rows)

    assert gain(fine, coarse) == 0.5
    always = np.ones(20)
    assert gain(synthetic(always, 3e9), fine, coarse) == 0.0, "one setting at this cost is as good"
    assert gain(synthetic(always, 4e9), fine, coarse) == 0.5, "one setting at a higher cost is no match"
    of_each_resolution = together([fine, synthetic(always, 5e9), coarse, synthetic(always, 4e9)], 2)
    assert [(e["ensemble"], e["ensemble_gflops"]) for e in of_each_resolution] == [(1, 3), (1, 9), (0.5, 1), (1, 4)]


def test_an_ensemble_is_of_probabilities_not_of_logits():
    """One size is sure by far, two are not: the mean of logits would follow the loudest."""
    loud = synthetic(np.zeros(4), 1e9)._replace(outputs=np.eye(10)[[1] * 4] * 50.0)
    quiet = [synthetic(np.ones(4), 1e9)._replace(outputs=np.eye(10)[[0] * 4] * 6.0) for _ in range(2)]
    assert together([loud, *quiet], 1)[0]["ensemble"] == 1.0
