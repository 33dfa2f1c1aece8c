"""Images that a frozen backbone embeds once: training on vectors is training on pixels."""

from dataclasses import replace
from functools import lru_cache
from itertools import islice

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from data.embedded import Embedded, digests, embedded
from data.errors import BadImage
from data.rows import PlannedRows
from data.sampling.augment import Augment
from data.sampling.dropping import Beta, Constant
from data.sampling.merge import Merge
from data.sampling.packing import Packing, Template
from data.sampling.patch_size import OneSize
from data.sampling.resolution import Clips, Native, WholeBlocks
from data.sources.digit_captions import DigitCaptions
from data.sources.digits import Digits
from data.tasks import TASKS
from harness.config import Config
from harness.embedded import embedded as check_embedded
from harness.lengths import Images
from harness.presets import adapted
from harness.resolve import resolve
from harness.run import embedded as module
from harness.run import loading
from harness.run.loading import open_task, training_batches, training_rows
from harness.run.program import program_of
from navit_eqx import Model
from navit_eqx.config import Fuzzy, ModelConfig, Sinusoidal
from navit_eqx.errors import ConfigError
from navit_eqx.rows import to_device
from navit_eqx.tasks.config import Bytes, Classify, Contrast, Embed, TextTower
from navit_eqx.training import embedded as stand_in
from navit_eqx.training.config import AdamW, Backbone, OptimConfig, Parts
from reference.rows import Row
from tests.support.devices import mesh_of
from tests.support.laws import caught
from tests.support.runs import TINY, on_device, same_bits
from tests.support.strategies import filled
from tests.support.tolerances import FLOAT32, assert_close

KEY = jr.key(0)
SHAPE = ModelConfig((8, 8), width=8, depth=1, heads=2, mlp_width=8, dtype="float32")
FIXED = replace(TINY.data, resolution=Native(), dropping=Constant(0.0), source=Digits(30, 4))
ON_VECTORS = replace(FIXED, embedded=Embedded())
FROZEN = OptimConfig(AdamW(), lr=0.1, ema=0.9, frozen=Backbone())
CLASSES = Config(model=SHAPE, data=ON_VECTORS, optim=FROZEN, task=Classify(), rows=2, steps=9)
PAIRS = replace(
    CLASSES,
    data=replace(ON_VECTORS, source=DigitCaptions(30, 4), packing=Packing(64, 12)),
    optim=replace(FROZEN, lr=0.01),
    task=Contrast(text=TextTower(8, 1, 2, 8), tokenizer=Bytes(24), embedding=4),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of vectors for each test, small programs, and Optax, which multiplies floats by integer step counts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(loading, "rows_at_once", lambda row_tokens, devices: 2)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    with jax.numpy_dtype_promotion("standard"):
        yield


@lru_cache
def opened(config: Config):
    """Resolved configuration, data side of the task, program and planned rows; pixels where nothing is embedded."""
    source = config.data.source.open("", "train")
    prepared, task = open_task(config, source.manifest)
    config = resolve(replace(config, task=prepared.config), source.manifest, task)[0]
    return config, task, program_of(config, prepared, mesh_of(1)), training_rows(config, source, task)


def trained(config: Config, steps: int, state=None, start: int = 0):
    """The state after some steps, from the start or from a state after `start` steps."""
    config, task, program, planned = opened(config)
    state = program.init_state(jr.key(0)) if state is None else state
    batches = training_batches(config, task, module.rows_to_train(config, planned, program, state))(start=start)
    for batch in islice(batches, steps):
        state, _ = program.step(state, program.device_batch(batch))
    return state


def vectors_are_pixels(config: Config, steps: int) -> None:
    """Every parameter, average and moment after some steps."""
    on_pixels = replace(config, data=replace(config.data, embedded=None))
    one, other = (trained(each, steps) for each in (config, on_pixels))
    before = jax.tree.leaves(opened(config)[2].init_state(jr.key(0)).model)
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(before, jax.tree.leaves(one.model)))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert_close(np.asarray(a, float), np.asarray(b, float), 100 * FLOAT32)


def losses_agree() -> None:
    """Of the first batch: the loss, and the gradient of the head."""
    config, task, program, planned = opened(CLASSES)
    model = program.model(filled(program.abstract_state.model, 0, "float32"))
    rows = embedded(planned, module.vectors_of(model, config, planned.source))

    def of(loss, rows):
        batch = on_device(next(training_batches(config, task, rows)()))
        with_head = lambda head: eqx.tree_at(lambda m: m.task.head, model, head)
        return jax.value_and_grad(lambda head: loss(with_head(head), batch, KEY)[0])(model.task.head)

    found = of(stand_in.own_loss, planned), of(stand_in.loss_of_vectors, rows)
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        assert_close(np.asarray(a, float), np.asarray(b, float), 100 * FLOAT32)


def test_the_loss_of_vectors_is_that_of_pixels(monkeypatch):
    monkeypatch.setattr(module, "pooled", lambda model, row: model.backbone(row))
    losses_agree()


def test_vectors_of_other_images_are_caught(monkeypatch):
    monkeypatch.setattr(module, "pooled", lambda model, row: model.backbone(row))
    vectors_of = module.vectors_of
    monkeypatch.setattr(module, "vectors_of", lambda *a: np.roll(vectors_of(*a), 1, 0))
    caught(losses_agree)


@pytest.mark.slow
def test_training_on_vectors_is_training_on_pixels():
    vectors_are_pixels(CLASSES, 4)


@pytest.mark.slow
def test_a_locked_image_tower_trains_texts_as_on_pixels():
    """Pairs, with both towers of texts and the projections trained.   [LiT]"""
    vectors_are_pixels(PAIRS, 4)
    vectors_are_pixels(replace(PAIRS, optim=replace(PAIRS.optim, frozen=Parts(("backbone",)))), 3)


@pytest.mark.slow
def test_a_run_that_continues_is_one_that_was_not_stopped():
    """To the bit, with vectors that were kept, and with vectors that are computed again."""
    whole, half = trained(CLASSES, 4), trained(CLASSES, 2)
    kept = trained(CLASSES, 2, jax.tree.map(np.copy, half), start=2)
    same_bits(whole, kept)
    for file in module.cache_folder().glob("embedded-*"):
        file.unlink()
    same_bits(whole, trained(CLASSES, 2, jax.tree.map(np.copy, half), start=2))


class Broken:
    """Digit strips of which one cannot be read."""

    def __init__(self, index: int):
        strips = Digits(30, 4).open("", "train")
        self.manifest, self.strips, self.index = strips.manifest, strips, index

    def image(self, index: int, shrink: int = 1):
        if index == self.index:
            raise BadImage("torn")
        return self.strips.image(index)


def as_planned(broken: int) -> None:
    """Rows of vectors hold the images of rows of pixels, slot by slot, and the same targets; a torn image is empty."""
    config, task, _, planned = opened(CLASSES)
    planned = replace(planned, source=Broken(broken))
    vectors = np.arange(30.0)[:, None] + np.zeros((30, 8))
    vectors[broken] = np.nan
    for pixels, found in zip(*(islice(iter(task.batches(r)), 9) for r in (planned, embedded(planned, vectors)))):
        for a, b in zip(jax.tree.leaves(pixels.targets), jax.tree.leaves(found.targets), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(pixels.row.image_ids, found.row.image_ids)
        np.testing.assert_array_equal(pixels.row.grids[:, 0] > 0, found.row.grids[:, 0] > 0)
        used = found.row.segment_ids > 0
        np.testing.assert_array_equal(found.row.patches[used, 0], found.row.image_ids[used])
        assert np.isfinite(found.row.patches).all() and (used == (found.row.grids[:, 0] > 0)).all()


@pytest.mark.parametrize("broken", [3, 17])
def test_rows_of_vectors_hold_the_images_that_were_planned(broken):
    as_planned(broken)


ROWS = Row(
    np.arange(48, dtype=np.uint8).reshape(1, 6, 8), np.arange(12).reshape(1, 6, 2),
    np.array([[1, 1, 2, 2, 2, 0]]), np.array([[[1, 2], [3, 1], [0, 0]]]), np.array([[5, 4, 9]]),
)  # fmt: skip


def changed(name: str, place: tuple, value: int) -> Row:
    leaf = getattr(ROWS, name).copy()
    leaf[place] = value
    return ROWS._replace(**{name: leaf})


@pytest.mark.parametrize(
    "name, place", [("patches", (0, 0, 3)), ("coords", (0, 1, 1)), ("grids", (0, 0, 1)), ("patches", (0, 1, 7))]
)
def test_whatever_a_model_reads_of_an_image_changes_its_key_and_no_other(name, place):
    before, after = digests(ROWS), digests(changed(name, place, 77))
    assert before.keys() == {(0, 0), (0, 1)} and before[0, 0] != before[0, 1]
    assert before[0, 0] != after[0, 0] and before[0, 1] == after[0, 1]


def test_a_key_does_not_depend_on_row_slot_or_name():
    moved = Row(*(np.roll(leaf, 1, 1) for leaf in ROWS))._replace(grids=ROWS.grids[:, [1, 0, 2]])
    moved = moved._replace(segment_ids=np.array([[0, 2, 2, 1, 1, 1]]))
    assert digests(moved) == {(0, 0): digests(ROWS)[0, 1], (0, 1): digests(ROWS)[0, 0]}


def vectors(monkeypatch) -> tuple[np.ndarray, int]:
    """Vectors of the strips by a fixed model, and the number of batches that were computed."""
    config, _, program, planned = opened(CLASSES)
    computed = []
    monkeypatch.setattr(module, "pooled", lambda *a: computed.append(1) or stand_for(*a))
    model = program.model(filled(program.abstract_state.model, 0, "float32"))
    return module.vectors_of(model, config, planned.source), len(computed)


def stand_for(model: Model, row: Row) -> jax.Array:
    """A vector of each slot: sums of its patches."""
    slots = np.arange(1, row.grids.shape[-2] + 1)[:, None]
    mine = (np.asarray(row.segment_ids)[:, None] == slots).astype(np.float32)
    return jnp.asarray(mine @ np.asarray(row.patches, np.float32)[..., :8])


def test_each_vector_is_computed_once(monkeypatch, capsys):
    """Only the first batch is computed again. Damaged files, and vectors of another program, are computed anew."""
    fresh, all_batches = vectors(monkeypatch)
    assert np.isfinite(fresh).all() and all_batches > 2
    kept, again = vectors(monkeypatch)
    np.testing.assert_array_equal(kept, fresh)
    assert again == 1 and "30 images embedded, 0 vectors are new" in capsys.readouterr().out
    (file,) = module.cache_folder().glob("embedded-*")
    with np.load(file) as found:
        keys, values = found["keys"], found["vectors"]
    np.savez(file, keys=keys, vectors=values * np.float32(1.1))
    other, recomputed = vectors(monkeypatch)
    np.testing.assert_array_equal(other, fresh)
    assert recomputed == all_batches
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(vectors(monkeypatch)[0], fresh)


def test_another_tower_has_vectors_of_its_own():
    program = opened(CLASSES)[2]
    one, other = (program.model(filled(program.abstract_state.model, seed, "float32")) for seed in (0, 1))
    assert module.backbone_digest(one) == module.backbone_digest(one) != module.backbone_digest(other)


REFUSED = {
    "trained": (replace(CLASSES, optim=OptimConfig()), "--optim.frozen backbone"),
    "the last block is trained": (replace(CLASSES, optim=replace(FROZEN, frozen=Backbone(1))), "backbone is trained"),
    "texts are frozen": (replace(CLASSES, optim=replace(FROZEN, frozen=Parts(("task",)))), "backbone is trained"),
    "another task": (replace(CLASSES, task=Embed()), "the task Embed reads more"),
    "flips": (replace(CLASSES, data=replace(ON_VECTORS, augment=Augment(flip=True))), "data.augment changes images"),
    "dropping": (replace(CLASSES, data=replace(ON_VECTORS, dropping=Beta())), "data.dropping drops"),
    "sizes": (replace(CLASSES, data=replace(ON_VECTORS, resolution=Native(0.5, 1))), "draws sizes from 0.5 to 1"),
    "fill": (replace(CLASSES, data=replace(ON_VECTORS, packing=Packing(64, 12, fill="rate"))), "data.packing.fill"),
    "clips": (replace(CLASSES, data=replace(ON_VECTORS, resolution=Clips(Native()))), "samples clips"),
    "whole blocks": (replace(CLASSES, data=replace(ON_VECTORS, resolution=WholeBlocks(Native()))), "for a hierarchy"),
    "patches": (replace(CLASSES, data=replace(ON_VECTORS, patch_sizes=OneSize((4, 4)))), "data.patch_sizes: one size"),
    "merging": (replace(CLASSES, data=replace(ON_VECTORS, merge=Merge())), "data.merge joins patches"),
    "templates": (replace(CLASSES, data=replace(ON_VECTORS, packing=Packing(64, 12, Template()))), "Template cuts"),
    "moves": (replace(CLASSES, model=replace(SHAPE, fuzzy=Fuzzy(), posembed=Sinusoidal())), "model.fuzzy moves"),
    "blocks": (replace(CLASSES, model=replace(SHAPE, stochastic_depth=0.1)), "stochastic_depth skips blocks"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_single_vector_is_refused_by_name(case):
    config, why = REFUSED[case]
    images = Images(CLASSES.data.source.open("", "train").manifest, TASKS["Classify"]())
    with pytest.raises(ConfigError, match=why):
        check_embedded(config, images)


def test_images_that_are_embedded_once_are_not_augmented_by_a_preset():
    """Nor dropped; other presets keep what they have. Workers are not started for vectors."""
    drawn = replace(CLASSES, data=replace(FIXED, augment=Augment(flip=True), dropping=Beta()))
    assert adapted(drawn, ["--steps", "3"]) == drawn
    found = adapted(drawn, ["--data.embedded=embedded"])
    assert (found.data.augment, found.data.dropping) == (Augment(), Constant(0.0))
    images = Images(CLASSES.data.source.open("", "train").manifest, TASKS["Classify"]())
    config, notes = check_embedded(replace(CLASSES, data=replace(ON_VECTORS, workers=2)), images)
    assert config.data.workers == 0 and notes


def test_an_empty_slot_has_the_vector_of_a_backbone():
    """Zeros, whatever the row holds there."""
    nothing = np.full((1, 3, 4), np.nan)
    row = Row(nothing, ROWS.coords[:, :3], np.array([[1, 0, 0]]), ROWS.grids, ROWS.image_ids)
    assert (np.asarray(stand_in.Given()(to_device(row)))[:, 1:] == 0).all()


def test_without_the_option_rows_are_pixels():
    config, _, program, planned = opened(replace(CLASSES, data=FIXED))
    assert module.rows_to_train(config, planned, program, program.abstract_state) is planned
    assert type(module.rows_to_time(*opened(CLASSES)[::3])) is not PlannedRows
