"""What is evaluated: every image, as it is, on images and by settings that training and selection did not see."""

import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evaluate
from data.errors import BadImage, DataError
from data.manifest import Manifest, as_names
from data.plan import NOTHING
from data.rows import PlannedRows
from data.sampling.augment import Augment, Mix
from data.sampling.dropping import Constant
from data.sampling.packing import Packing
from data.sampling.resolution import Native
from data.sampling.token_selection import ByContrast
from data.sources.decode import resize
from data.sources.digits import Digits, DigitStrips
from data.sources.folder import Folder
from data.tasks import TASKS
from harness.config import Config
from harness.digit_presets import large_digits
from harness.evaluation import predictions as evaluation
from harness.evaluation import studies
from harness.evaluation.predictions import Context, Predictions, halves
from harness.evaluation.studies.findings import compare
from harness.evaluation.studies.probe import L2, Features, fit
from harness.evaluation.studies.sweep import check_share, in_words
from harness.run import loading
from harness.run.folder import write_config
from harness.run.loading import evaluation_rows, open_sources, training_rows
from navit_eqx import ModelInfo
from navit_eqx.config import Flexi, ModelConfig
from navit_eqx.inference import forward
from navit_eqx.rows import Row
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import Model, abstract_model
from reference.evaluation.calibration import BINS, softmax
from reference.patches import patchify
from tests.support.predictions import synthetic
from tests.support.tolerances import EXACT, FLOAT64, assert_close

AT = Native(0.8, 0.8)


@lru_cache
def config(seed: int = 0) -> Config:
    """A run that trains on anything but whole images as they are."""
    base = large_digits()
    data = replace(
        base.data,
        source=Digits(40, 21),
        resolution=Native(0.5, 1.2),
        dropping=Constant(0.5),
        packing=Packing(80, 8),
        token_selection=ByContrast(),
        augment=Augment(flip=True, crop=0.4, rotate=0.2, jitter=0.4, mix=Mix(share=1)),
        val_resolution=0.8,
    )
    return replace(base, model=replace(base.model, patch=(8, 8)), data=data, rows=4, seed=seed)


def val() -> DigitStrips:
    return DigitStrips("val", 21, 0)


# images ---------------------------------------------------------------------------------------------------


def test_what_is_evaluated_is_every_image_as_it_is(monkeypatch):
    """Once, at the resolution asked for, with all tokens: whatever training does, and though rows fill no batch."""
    monkeypatch.setattr(loading, "rows_at_once", lambda row_tokens, devices: 4)
    source, seen = val(), []
    batches, plan = evaluation_rows(config(), source, AT)
    assert len(plan.image_ids) % 4  # the last batch is not full
    for batch in batches:
        assert len(batch.image_ids) == 4
        for r, slot in np.argwhere(batch.image_ids >= 0):
            image, here = int(batch.image_ids[r, slot]), batch.segment_ids[r] == slot + 1
            whole, coords, grid = patchify(evaluation_picture(source, image), (8, 8))
            np.testing.assert_array_equal(batch.patches[r][here], whole)
            np.testing.assert_array_equal(batch.coords[r][here], coords)
            np.testing.assert_array_equal(batch.grids[r, slot], grid)
            seen.append(image)
    assert sorted(seen) == list(range(21))


def evaluation_picture(source: DigitStrips, image: int) -> np.ndarray:
    """An image at the resolution of evaluation."""
    grid = AT.grids(np.random.default_rng(0), source.manifest.sizes[[image]], (8, 8))[0]
    return resize(source.image(image), (int(grid[0]) * 8, int(grid[1]) * 8))


def test_validation_images_are_others_than_those_of_training():
    train, other = open_sources(config())
    pixels = [{source.image(i).tobytes() for i in range(len(source.manifest))} for source in (train, other)]
    assert len(pixels[0]) == 40 and len(pixels[1]) == 21 and not pixels[0] & pixels[1]
    assert train.manifest.classes == other.manifest.classes


class Damaged(DigitStrips):
    """Every third image cannot be decoded."""

    def image(self, index, shrink=1):
        if index % 3 == 0:
            raise BadImage("half a file")
        return super().image(index, shrink)


def stub(shape: ModelConfig) -> Model:
    """A model without numbers: the outputs asked for below need none."""
    return abstract_model(shape, Classify(classes=10), ModelInfo(tuple("0123456789")))


def grids_as_features(model, batch):
    return jnp.asarray(batch.grids, "float32")


def test_every_image_is_scored_or_counted():
    source = Damaged("val", 21, 0)
    short = replace(config(), model=replace(config().model, posembed=replace(config().model.posembed, size=14)))
    model = stub(short.model)
    found = evaluation.evaluate(model, short, source, TASKS["Classify"](), AT, output=grids_as_features)
    longest = AT.grids(np.random.default_rng(0), source.manifest.sizes, (8, 8)).max(-1)
    fits, whole = longest <= 14, np.arange(21) % 3 > 0
    assert not fits.all()
    np.testing.assert_array_equal(found.image_ids, np.flatnonzero(fits & whole))
    assert (found.left_out, found.unreadable) == ((~fits).sum(), (fits & ~whole).sum())
    np.testing.assert_array_equal(found.outputs.prod(-1), found.tokens)


def test_flops_are_those_of_the_patch_size():
    shape = replace(config().model, flexi=Flexi((8, 16)))
    model, both = stub(shape), replace(config(), model=shape)
    found = evaluation.evaluate(model, both, val(), TASKS["Classify"](), AT, output=grids_as_features, patch=(16, 16))
    coarse = replace(config(), model=replace(config().model, patch=(16, 16)))
    want = evaluation.evaluate(model, coarse, val(), TASKS["Classify"](), AT, output=grids_as_features)
    np.testing.assert_array_equal(found.tokens, want.tokens)
    assert_close(found.flops, want.flops, EXACT)


def test_time_is_divided_by_images():
    """Not by slots: a batch that takes 30 ms for three images takes 10 ms an image."""
    grids = np.array([[[2, 2], [1, 3], [0, 0], [0, 0]], [[1, 1]] + [[0, 0]] * 3], np.int32)
    grids = np.concatenate([grids, np.zeros((6, 4, 2), np.int32)])  # rows for eight devices
    ids = np.zeros((8, 8), np.int32)
    batch = Row(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 2), np.int32), ids, grids, ids[:, :4] - 1)
    wait = 0.03
    late = lambda found: time.sleep(wait) or found
    slots = jax.ShapeDtypeStruct((), "float32")

    def output(model, batch):
        waited = jax.pure_callback(late, slots, jnp.zeros((), "float32"))
        return jnp.zeros(batch.grids.shape[:-1], "float32") + waited

    with jax.numpy_rank_promotion("allow"):
        assert evaluation.seconds_per_image(stub(config().model), batch, output) >= wait / 3 * (1 - 1e-3)


def test_wide_images_are_wide():
    sizes = np.array([(10, 40), (40, 10), (30, 30)], np.int32)
    manifest = Manifest(as_names(["a", "b", "c"]), sizes, np.zeros(3, np.int32), ("one",), "here")
    folder = replace(config(), data=replace(config().data, source=Folder()))
    found = evaluation.groups(folder, manifest)
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "tall": [False, True, False], "square": [False, False, True], "wide": [True, False, False],
    }  # fmt: skip


def test_a_standard_error_is_that_of_the_mean():
    """√(p (1 − p) / n) of a share; four times the images halve it."""
    right = np.arange(40) % 4 > 0
    one, four = (evaluation.measures(synthetic(np.tile(right, k), 1e9)) for k in (1, 4))
    assert_close(one["score_se"], np.sqrt(0.75 * 0.25 / 40), FLOAT64)
    assert_close(one["score_se"] / four["score_se"], 2, FLOAT64)


def test_a_gain_is_that_of_the_first():
    better, worse = synthetic([True] * 6 + [False] * 2, 1e9), synthetic([True] * 2 + [False] * 6, 1e9)
    row = compare(("a", "b"), better, worse)
    assert row["gain"] == row["a_score"] - row["b_score"] == 0.5


def test_an_evaluation_of_too_few_images_fails(tmp_path, monkeypatch):
    """Its tables are written all the same; the share is that of the data options."""
    row = {"resolution": 0.8, "images": 20, "left_out": 1, "unreadable": 0, "score": 0.5, "mean_gflops": 1.0}
    monkeypatch.setattr(evaluate, "trained_model", lambda folder: stub(config().model))
    options = evaluate.Options(config().data, split="val", out=str(tmp_path))
    for lost, fails in ((0, False), (1, False), (2, True), (21, True)):
        found = studies.Outcomes({"sweep": [row | {"left_out": lost // 2, "unreadable": lost - lost // 2}]}, {})
        monkeypatch.setattr(evaluate, "publish_all", lambda *given, found=found: found)
        whole = replace(config(), data=replace(config().data, max_unreadable=1.5 / 21))
        with pytest.raises(DataError, match="of 21 images, .*more than the share") if fails else nullcontext():
            evaluate.evaluate(tmp_path, whole, options)


def test_images_that_were_set_aside_count_as_given():
    """A score of the others is not one of all: the last line says so, and too many are an error."""
    row = {"resolution": 0.8, "images": 20, "left_out": 1, "unreadable": 0}
    manifest = config().data.source.open("", "val").manifest
    manifest = replace(manifest, sizes=manifest.sizes[:21], labels=manifest.labels[:21], names=manifest.names[:21])
    damaged = replace(manifest, set_aside=(("a.png", "damaged"),))
    assert in_words(row, manifest) == "20 of 21 images, 1 left out"
    assert in_words(row, damaged) == "20 of 22 images, 1 left out, 1 set aside"
    check_share(row, manifest, 1.5 / 22)
    with pytest.raises(DataError, match="20 of 22 images"):
        check_share(row, damaged, 1.5 / 22)


def test_all_of_other_images_are_evaluated(tmp_path, monkeypatch):
    """The images of the run: its validation split; images of another root: all of them."""
    asked = []
    write_config(tmp_path, config(), "digits", [], config().model.attention)
    monkeypatch.setattr(evaluate, "evaluate", lambda folder, config, options: asked.append(options.split))
    for more in ([], ["--data.source", "folder", "--data.root", str(tmp_path)], ["--split", "train"]):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", str(tmp_path), *more])
        evaluate.main()
    assert asked == ["val", "all", "train"]


# settings ---------------------------------------------------------------------------------------------------


def random(seed: int, flops: float, count: int = 200) -> Predictions:
    """Answers of a classifier that is right two times in three, and too sure of it."""
    rng = np.random.default_rng(seed)
    right = rng.random(count) < 2 / 3
    logits = rng.normal(size=(count, 10))
    logits[np.arange(count), np.where(right, 0, rng.integers(1, 10, count))] += 8
    return synthetic(right, flops)._replace(outputs=logits, scores=(logits.argmax(-1) == 0).astype(float))


def changed(old: Predictions, half: int, seed: int = 99) -> Predictions:
    """Other answers for the images of one of the two halves: less often right, and less sure."""
    other, ids = random(seed, 1.0), halves(old)[half].image_ids
    outputs = old.outputs.copy()
    outputs[ids] = other.outputs[ids] / 3
    outputs[ids[::2], 0] -= 4
    return old._replace(outputs=outputs, scores=(outputs.argmax(-1) == 0).astype(float))


def studied(study, found: list[Predictions]) -> list[dict]:
    """The rows of a study of two resolutions."""
    source = DigitStrips("val", 200, 0)
    source.manifest = replace(source.manifest, labels=np.zeros(200, np.int32))
    task, at = TASKS["Classify"](), (0.5, 0.8)
    context = Context(stub(config().model), config(), source, task, at)
    cache = {(context.sampling_at(r), NOTHING, forward, (8, 8)): seen for r, seen in zip(at, found)}
    return study(replace(context, cache=cache)).rows


def columns(rows: list[dict], *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in rows]


def test_a_temperature_is_fitted_on_the_half_that_is_not_judged():
    found = [random(0, 1e9), random(1, 4e9)]
    rows = studied(studies.calibration, found)
    judged = studied(studies.calibration, [changed(each, 1) for each in found])
    chosen = studied(studies.calibration, [changed(each, 0) for each in found])
    assert columns(judged, "temperature") == columns(rows, "temperature") != columns(chosen, "temperature")
    assert columns(chosen, "ece", "score") == columns(rows, "ece", "score") != columns(judged, "ece", "score")


def test_cascades_are_chosen_on_the_half_that_is_not_measured():
    found = [random(0, 1e9), random(1, 4e9)]
    setting = ("cheap", "better", "threshold", "score_chosen")
    rows = studied(studies.cascade, found)
    judged = studied(studies.cascade, [changed(each, 1) for each in found])
    assert columns(judged, *setting) == columns(rows, *setting)
    assert columns(judged, "score") != columns(rows, "score")
    chosen = studied(studies.cascade, [changed(each, 0) for each in found])
    assert columns(chosen, *setting) != columns(rows, *setting)
    measured = {row["score"] for row in rows if row["better"] is None and row["cheap"] == 0.5}
    assert measured == {halves(found[0])[1].scores.mean()}


def test_a_probe_is_chosen_on_the_half_that_is_not_judged():
    def features(seed: int, noise: float) -> Features:
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 3, 60).astype(np.int32)
        return Features(np.eye(3, 30)[labels] + noise * rng.normal(size=(60, 30)), labels)

    differ = 0
    for seed in range(6):
        train, choose, test, other = (features(4 * seed + k, 0.7) for k in range(4))
        accuracy, l2 = fit(train, choose, test, 3)
        assert l2 in L2 and fit(train, choose, other, 3)[1] == l2
        swapped = fit(train, test, choose, 3)
        differ += swapped[1] != l2
        assert swapped[0] != accuracy or swapped[1] == l2 or accuracy in (0, 1) or differ
    assert differ


def test_chance_ece_is_that_of_the_scaled_confidences():
    """A perfect model that is as sure as this one after its temperature, asked many times."""
    seen = random(0, 1e9)
    row = studied(studies.calibration, [seen, seen])[0]
    confidence = softmax(halves(seen)[1].outputs / row["temperature"]).max(-1)
    rng, place = np.random.default_rng(5), np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [np.bincount(place, (rng.random(len(place)) < confidence) - confidence, BINS) for _ in range(300)]
    assert row["temperature"] > 1.3
    assert_close(row["ece_perfect"], np.abs(gaps).sum(-1).mean() / len(place), 0.15)


# options of training ------------------------------------------------------------------------------------------


def training(change: dict, seed: int = 0) -> PlannedRows:
    plain = {"augment": Augment(), "dropping": Constant(0.5), "token_selection": large_digits().data.token_selection}
    one = replace(config(seed), data=replace(config().data, **(plain | change)))
    return training_rows(one, one.data.source.open("", "train"), TASKS["Classify"]())


def test_another_seed_is_another_order():
    orders = [training({}, seed).epochs.locate(0)[1].image_ids.tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    "change, field",
    [
        ({"augment": Augment(flip=True, crop=0.5)}, "patches"),
        ({"token_selection": ByContrast()}, "coords"),
        ({"dropping": Constant(0.1)}, "segment_ids"),
        ({"resolution": Native(1.5, 1.6)}, "grids"),
        ({"packing": Packing(120, 8)}, "segment_ids"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_options_of_the_data_reach_the_rows(change, field):
    plain, other = (getattr(training(options)[0], field) for options in ({}, change))
    assert not np.array_equal(plain, other)
    assert np.array_equal(plain, getattr(training({})[0], field))
