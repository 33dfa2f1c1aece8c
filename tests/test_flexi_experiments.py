"""What experiments on FlexiViT have of their own: other knobs, another task, arms that start from other arms."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.plan import plan_epoch
from data.rows import Pixels, PlannedRows
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.patch_size import OneSize
from data.sampling.resolution import Native
from data.sources.digits import Digits
from data.stream import Epochs
from experiments.flexi_coarse_to_fine.run import tuned
from experiments.flexi_knobs.knobs import first_blocks, shallow_or_deep, windowed, windows
from experiments.flexi_knobs.run import BLOCKS, SETTINGS, SIZE, STRIDE, evaluation, flops_of, within
from experiments.flexi_knobs.run import arms as arms_of_knobs
from experiments.pairs import Pairs
from experiments.trial import sizes, training_flops, trial
from navit_eqx import load_model
from navit_eqx.config import Flexi
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Classify, Distill
from navit_eqx.tasks.model import abstract_model
from reference.patches import patchify
from reference.resize import pi_resize
from reference.rows import pack
from tests.support.experiments import DIGITS, TINY, filled_program, saved
from tests.support.sampling import caught
from tests.support.strategies import CONFIG, TASK, I, T, filled, tokens_of
from tests.support.tolerances import FLOAT64, assert_close

# distance of patches ------------------------------------------------------------------------------

strides = st.tuples(st.integers(1, 6), st.integers(0, 5)).map(lambda pair: (pair[0], sum(pair)))
cells = st.tuples(st.integers(1, 4), st.integers(1, 4))


def shows_each_cell_in_its_middle(cut, grid, stride, size):
    """In the middle of each window is its cell, as it is cut without overlap; next to it are its neighbours."""
    pixels = np.random.default_rng(0).integers(0, 256, (grid[0] * stride, grid[1] * stride, 3), np.uint8)
    seen = cut(pixels, size, stride).reshape(-1, size, size, 3)
    before = (size - stride) // 2
    inside = seen[:, before : before + stride, before : before + stride].reshape(len(seen), -1)
    np.testing.assert_array_equal(inside, patchify(pixels, (stride, stride)).patches)
    seen = seen.reshape(*grid, size, size, 3)
    np.testing.assert_array_equal(seen[:-1, :, stride:], seen[1:, :, :-stride])


@given(cells, strides)
def test_windows_show_each_cell_in_its_middle(grid, sides):
    shows_each_cell_in_its_middle(windows, grid, *sides)


def test_windows_off_their_cells_are_caught():
    shifted = lambda pixels, size, stride: np.roll(windows(pixels, size, stride), 3, axis=1)
    turned = lambda pixels, size, stride: windows(pixels.transpose(1, 0, 2), size, stride)
    for wrong in (shifted, turned):
        caught(shows_each_cell_in_its_middle, wrong, (3, 2), 4, 9)


def test_windows_that_touch_are_patches():
    """Where distance and size are one, rows are those of a fixed patch size."""
    source = Digits(30, 10).open("", "train")
    plan = lambda place: plan_epoch(
        source.manifest.sizes, seed=0, epoch=place, patch_size=(8, 8), resolution=Native(), dropping=Constant(0.0),
        packing=Packing(96, 16), longest_side=64,
    )  # fmt: skip
    plain = PlannedRows(source, Epochs(plan), 4, Pixels((8, 8)), 96, 0, None)
    for ours, theirs in zip(windowed(plain)[2], plain[2]):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


# number of blocks ---------------------------------------------------------------------------------

DEEP = replace(CONFIG, depth=3)
MODEL = filled(abstract_model(DEEP, TASK), 0, "float64")


def test_images_run_through_the_first_blocks():
    """At least one and at most all, each number as often; the same wherever an image stands."""
    model = eqx.filter_eval_shape(lambda key: shallow_or_deep(DEEP, TASK, key=key), jr.key(0)).backbone
    ids = jnp.arange(3000).reshape(3, 1000)
    gates = np.asarray(model.gates(jr.key(1), ids))
    assert gates.shape == (3, 3, 1000) and {*np.unique(gates)} == {0.0, 1.0}
    assert (np.diff(gates, axis=0) <= 0).all() and (gates[0] == 1).all()
    depths, counts = np.unique(gates.sum(0), return_counts=True)
    assert depths.tolist() == [1, 2, 3] and counts.min() > 900
    turned = np.asarray(model.gates(jr.key(1), ids[::-1, ::-1]))
    np.testing.assert_array_equal(turned, gates[:, ::-1, ::-1])


def is_the_model_of_fewer_blocks(cut, row):
    """Gates of 1, …, 1, 0, … and a model without the other blocks say the same."""
    features = eqx.filter_jit(lambda model, gates: model.backbone(row, gates))
    for count in (1, 2):
        gates = jnp.broadcast_to((jnp.arange(3) < count).astype(float)[:, None], (3, len(row.grids)))
        assert_close(features(cut(MODEL, count), None), features(MODEL, gates), FLOAT64)


def test_skipped_blocks_are_missing_blocks():
    rng = np.random.default_rng(0)
    row = to_device(pack([tokens_of(rng, (2, 3)), tokens_of(rng, (3, 3))], range(2), T, I))
    is_the_model_of_fewer_blocks(first_blocks, row)
    last = lambda model, count: eqx.tree_at(
        lambda m: m.backbone.encoder.blocks,
        model,
        jax.tree.map(lambda leaf: leaf[-count:], model.backbone.encoder.blocks),
    )
    caught(is_the_model_of_fewer_blocks, last, row)


# what is compared ---------------------------------------------------------------------------------


def test_knobs_cost_the_same():
    arms = arms_of_knobs(100)
    flops = [flops_of(config) for config in arms.values()]
    assert max(flops) < 1.01 * min(flops)
    assert arms[STRIDE].steps < arms[SIZE].steps == 100 < arms[BLOCKS].steps
    whole = training_flops(arms[BLOCKS])
    assert whole > 1.3 * flops_of(arms[BLOCKS]), "blocks that are skipped count as nothing"


def test_every_validation_image_is_seen_in_windows():
    config = arms_of_knobs(1)[STRIDE]
    config = replace(config, data=replace(config.data, source=Digits(30, 10)))
    batches = [*evaluation(config, Native(1.0, 1.0), 6)]
    seen = np.concatenate([batch.image_ids[batch.image_ids >= 0] for batch in batches])
    assert all(((batch.grids[..., 0] > 0) == (batch.image_ids >= 0)).all() for batch in batches)
    assert sorted(seen) == [*range(10)]
    assert all(batch.patches.shape[-1] == 3 * 15**2 and batch.patches.dtype == np.uint8 for batch in batches)


def test_the_best_setting_within_a_budget_is_chosen_by_other_seeds():
    """Not by its own luck, and never beyond the budget."""
    assert [*SETTINGS[BLOCKS]] == ["1 block", "2 blocks", "3 blocks", "4 blocks"]
    usual, lucky = (0.1, 0.2, 0.4, 0.3), (0.5, 0.2, 0.4, 0.9)
    trials = [
        {"arm": BLOCKS, "seed": seed, "accuracy": dict(zip(SETTINGS[BLOCKS], accuracy))}
        for seed, accuracy in enumerate((usual, usual, lucky))
    ]
    assert within(trials[2], trials)["accuracy"] == {"4": 0.5, "6.5": 0.2, "9": 0.4, "13.5": 0.4}
    assert within(trials[0], trials)["accuracy"] == {"4": 0.1, "6.5": 0.1, "9": 0.4, "13.5": 0.3}


def test_a_teacher_costs_its_forward_passes():
    taught = replace(TINY, task=Distill("x", row_tokens=TINY.data.packing.row_tokens, classes=10))
    alone = training_flops(TINY)
    assert training_flops(taught, sizes(TINY)) == pytest.approx(alone * 4 / 3)
    coarse = replace(TINY, data=replace(TINY.data, patch_sizes=OneSize((16, 16))))
    assert training_flops(coarse) == training_flops(replace(TINY, model=replace(TINY.model, patch=(16, 16))))


# other tasks, other beginnings --------------------------------------------------------------------


def test_pairs_are_another_task_on_the_same_pictures():
    strips = Digits(20, 10)
    usual, pairs = strips.open("", "val"), Pairs(**vars(strips)).open("", "val")
    assert pairs.manifest.classes == ("0 or 1", "2 or 3", "4 or 5", "6 or 7", "8 or 9")
    for index, (label, pair) in enumerate(zip(usual.manifest.labels, pairs.manifest.labels)):
        assert str(label) in pairs.manifest.classes[pair]
        np.testing.assert_array_equal(pairs.image(index), usual.image(index))
    assert tuned(TINY, "x").data.source == Pairs(**vars(TINY.data.source))


@pytest.mark.slow
def test_a_trial_begins_where_it_is_told_and_learns_from_whom_it_is_told(tmp_path, monkeypatch):
    """At rate 0 the student is its start, with the kernel at its own size; the teacher's rows are counted."""
    monkeypatch.setattr("experiments.trial.compiled", filled_program)
    folder = str(tmp_path / "saved")
    start = saved(tmp_path / "saved", TINY.model, 7)
    student = replace(
        TINY,
        model=replace(TINY.model, patch=(6, 6), flexi=Flexi((6, 8))),
        optim=replace(TINY.optim, lr=0.0),
        start=folder,
        task=Distill(folder, row_tokens=32, classes=10),
    )
    with jax.numpy_dtype_promotion("standard"):
        found = trial(student, (), keep=tmp_path / "kept")
    assert found["flops"] == training_flops(student, sizes(TINY)) > training_flops(student)
    kept = load_model(tmp_path / "kept")
    assert kept.config == student.model and kept.info.classes == DIGITS
    assert kept.task.config == Classify(classes=10), "what is left of a student is a classifier"
    want = pi_resize(np.asarray(start.backbone.patch_embedding.w, float), (8, 8), (6, 6))
    np.testing.assert_allclose(kept.backbone.patch_embedding.w, want, atol=1e-6)
    place = lambda m: m.backbone.patch_embedding.w
    same = eqx.tree_at(place, kept, place(start))
    for ours, theirs in zip(jax.tree.leaves(same), jax.tree.leaves(start), strict=True):
        np.testing.assert_array_equal(ours, theirs)
