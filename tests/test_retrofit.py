"""Merging on models that were trained without it: zero-shot on an imported tower, and with vectors of levels added."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np

import navit_eqx as navit
from harness.digit_presets import large_digits
from harness.evaluation.predictions import model_for_patch
from harness.run import warm_start as warm
from harness.run.warm_start import shape_from, warm_start
from navit_eqx.config import AreaWeights, Detail, Levels
from navit_eqx.front import info_of
from navit_eqx.preprocessing import Merge, Native
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import Model
from tests.support import golden
from tests.support.golden import FOLDER
from tests.support.laws import caught
from tests.support.tolerances import FLOAT32, assert_close

HALF = 0.01  # of features: patches of merged images are float16
TOWER = "dinov3"  # its positions are centers, read by rotation


def pictures() -> list[np.ndarray]:
    """Images of whole blocks of 2 x 2 patches; half of each is flat."""
    side, rng = 2 * golden.loaded(TOWER).config.patch[0], np.random.default_rng(0)
    found = [rng.integers(0, 256, (side * h, side * w, 3), np.uint8) for h, w in ((2, 3), (4, 2))]
    for image in found:
        image[: len(image) // 2] = 90
    return found


def features(model: Model, merge: Merge | None = None, **options) -> np.ndarray:
    how = replace(info_of(golden.loaded(TOWER)).preprocessing, size=Native(1.0), merge=merge)
    return np.stack([*navit.features(model, pictures(), preprocessing=how, **options)]).astype(float)


def is_merged_without_training() -> None:
    """All in blocks of 2 x 2, the tower is that tower at twice its patch; nothing merged, it is the tower."""
    tower = golden.loaded(TOWER)
    plain, merged = features(tower), features(tower, Merge(1.0, scales=2))
    side = 2 * tower.config.patch[0]
    coarse = features(model_for_patch(tower, (side, side)), patch=(side, side))
    scale = np.abs(coarse).max()
    assert np.abs(features(tower, Merge(0.0)) - plain).max() < HALF * scale
    assert np.abs(merged - coarse).max() < HALF * scale < np.abs(merged - plain).max()


def test_an_imported_tower_is_merged_without_training():
    is_merged_without_training()


def started(**more: Any) -> tuple[Model, list[str]]:
    """A run that starts from the tower, with further parts of a model."""
    base = large_digits()
    base = replace(base, start=str(FOLDER / TOWER), task=Classify(classes=4), model=replace(base.model, **more))
    (config, notes), info = shape_from(base), info_of(golden.loaded(TOWER))
    fresh = eqx.filter_eval_shape(lambda key: Model(config.model, config.task, info, key=key), jax.random.key(0))
    fresh = jax.tree.map(lambda leaf: jax.numpy.ones(leaf.shape, leaf.dtype), fresh)
    return warm_start(fresh, config, tuple("abcd")), notes


def starts_as_it_was() -> None:
    """The same features of merged images, to the bit of the sum: vectors and the end of the detail path start at zero,
    and the output says so."""
    (model, notes), (without, silent) = started(levels=Levels(3), detail=Detail(3)), started()
    assert model.backbone.levels is not None and without.backbone.levels is None
    assert model.backbone.levels.vectors.shape[0] == 2 and not np.asarray(model.backbone.levels.vectors).any()
    assert model.backbone.detail is not None and np.asarray(model.backbone.detail.join.w).any()
    for name in ("model.levels", "model.detail"):
        assert any(f"{name} = " in note for note in notes) and not any(name in note for note in silent)
    merge = Merge(0.6)
    assert_close(features(model, merge), features(without, merge), FLOAT32)


def test_vectors_that_are_added_change_nothing_at_first():
    starts_as_it_was()


def test_vectors_that_do_not_start_at_zero_are_caught(monkeypatch):
    """They are ones in the model that is filled; so is the end of the detail path."""
    right = warm.zero_at_first
    for part in ("levels", "detail"):
        wrong = lambda saved, initial, part=part: right(saved, initial) | {part: initial[part]}
        monkeypatch.setattr(warm, "zero_at_first", wrong)
        caught(starts_as_it_was)


def test_areas_may_be_added():
    """They have no parameters: a line says so."""
    base = large_digits()
    base = replace(base, start=str(FOLDER / TOWER), task=Classify(classes=4))
    for areas in (AreaWeights(), None):
        config, notes = shape_from(replace(base, model=replace(base.model, areas=areas)))
        assert config.model.areas == areas and any("model.areas = " in note for note in notes) == bool(areas)


def test_a_tower_with_a_table_of_positions_is_merged():
    """As many tokens as planned, and numbers."""
    tower = golden.loaded("dinov2")
    side = tower.config.patch[0]
    image = np.random.default_rng(0).integers(0, 256, (4 * side, 4 * side, 3), np.uint8)
    how = replace(info_of(tower).preprocessing, size=Native(1.0), merge=Merge(0.5))
    batch = navit.pack([image], tower, preprocessing=how)
    assert int((np.asarray(batch.segment_ids) > 0).sum()) == 16 - 3 * 2
    assert np.isfinite([*navit.features(tower, [image], preprocessing=how)]).all()
