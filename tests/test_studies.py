"""Studies of a small model on a few digit strips: what they compare is comparable, what they write is documented."""

import csv
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.plan import NOTHING
from data.sampling.dropping import Constant
from data.sampling.resolution import Native, Square
from data.sources.digits import Digits
from evaluate import Options, evaluate
from harness.evaluation import studies
from harness.evaluation.predictions import Context, Look, forward_flops, halves, on_common_images
from harness.evaluation.studies.findings import cheapest_within, compare
from harness.evaluation.studies.probe import first_of_each, fit, subset
from harness.evaluation.tables import table
from harness.presets import digits
from navit_eqx import NaViT, save_model
from navit_eqx.config import Factorised, ModelConfig
from navit_eqx.errors import ConfigError
from navit_eqx.inference import features, forward
from reference.evaluation.cost import image_flops
from tests.support.strategies import seeds
from tests.support.tolerances import FLOAT64, assert_close

ROOT = Path(__file__).parent.parent
RESOLUTIONS = (0.5, 0.8)
SMALL = ModelConfig(
    8, width=16, depth=1, heads=2, mlp_width=16, classes=10, posembed=Factorised(24), unroll=1, dtype="float32"
)


@lru_cache
def context() -> Context:
    """A model of random numbers: its answers differ between images and looks."""
    base = digits()
    source = Digits(train_images=150, val_images=60)
    config = replace(base, model=SMALL, data=replace(base.data, source=source, val_resolution=0.8), rows=4)
    rng = np.random.default_rng(0)
    shape = eqx.filter_eval_shape(NaViT, SMALL, key=jax.random.key(0))
    model = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shape)
    return Context(model, config, source.open("", "val"), RESOLUTIONS)


def synthetic(correct, flops, confident=None) -> Look:
    """A look at ten classes in which image i is right where `correct`, and sure of it where `confident`."""
    correct = np.asarray(correct, bool)
    count = len(correct)
    answer = np.where(correct, 0, 1)
    height = np.where(correct if confident is None else confident, 6.0, 1.0)
    logits = np.eye(10)[answer] * height[:, None]
    ids = np.arange(count)
    cost = np.full(count, float(flops))
    return Look(ids, np.zeros(count, np.int32), logits, np.full(count, 9), cost, 1e-3 * flops, 0, 0)


# what a look is -----------------------------------------------------------------------------------


def test_a_look_sees_every_image_once_with_its_tokens():
    manifest = context().source.manifest
    for resolution in RESOLUTIONS:
        seen = context().look(context().sampling_at(resolution))
        assert seen.image_ids.tolist() == list(range(60))
        np.testing.assert_array_equal(seen.labels, manifest.labels)
        grids = Native(resolution, resolution).grids(np.random.default_rng(0), manifest.sizes, 8)
        np.testing.assert_array_equal(seen.tokens, grids.prod(-1))


def test_a_look_is_taken_once():
    law = context().sampling_at(0.8)
    assert context().look(law) is context().look(law)
    assert context().look(law, Constant(0.5)) is not context().look(law)


def test_features_come_before_the_classifier():
    model, law = context().model, context().sampling_at(0.8)
    x = context().look(law, output=features).output
    assert x.shape == (60, SMALL.width)
    assert_close(x @ np.asarray(model.head.w) + np.asarray(model.head.b), context().look(law).output, 1e-5)


@given(tokens=st.lists(st.integers(1, 400), min_size=1, max_size=8))
def test_flops_are_summed_over_the_images(tokens):
    sizes = {"patch_dim": 192, "width": 16, "depth": 1, "mlp_width": 16, "classes": 10}
    each = forward_flops(np.array(tokens), SMALL)
    assert_close(each, [image_flops(n, **sizes) for n in tokens], FLOAT64)
    at_the_mean = image_flops(float(np.mean(tokens)), **sizes)
    assert at_the_mean <= each.mean() * (1 + 1e-12)
    if max(tokens) > 2 * min(tokens):
        assert at_the_mean < each.mean()  # what a cost at the mean number of tokens would miss


def test_halves_are_two_halves():
    seen = context().look(context().sampling_at(0.8))
    first, second = halves(seen)
    assert len(first.labels) == len(second.labels) == 30
    assert sorted([*first.image_ids, *second.image_ids]) == seen.image_ids.tolist()
    again = halves(context().look(context().sampling_at(0.5)))
    np.testing.assert_array_equal(first.image_ids, again[0].image_ids)
    with pytest.raises(ConfigError, match="halved"):
        halves(seen.only(seen.image_ids == 0))


def test_differences_are_between_the_same_images():
    """The first look could not see image 0, which the second gets wrong: that is no difference between them."""
    whole = synthetic([False, True, True], 1)
    part = synthetic([True, True, True], 1).only(np.array([False, True, True]))
    row = compare(("a", "b"), part, whole)
    assert (row["gain"], row["images"], row["b_accuracy"]) == (0.0, 2, 1.0)
    assert [each.image_ids.tolist() for each in on_common_images([part, whole])] == [[1, 2], [1, 2]]
    with pytest.raises(ConfigError, match="no image can be read"):
        on_common_images([part, whole.only(whole.image_ids == 0)])


# what the studies compare -------------------------------------------------------------------------


def test_aspect_compares_at_equal_tokens():
    for resolution in RESOLUTIONS:
        law = context().sampling_at(resolution)
        kept, squashed = context().look(law).tokens, context().look(Square(law)).tokens
        assert (np.abs(kept - squashed) <= np.sqrt(kept) + 0.25).all() and (kept != squashed).any()
    rows = studies.aspect(context()).rows
    assert [row["kept_mean_tokens"] for row in rows] == [m["mean_tokens"] for m in studies.sweep(context()).rows]


def test_upscaling_spends_tokens_on_small_images_alone():
    """No image of the strips is smaller than itself, so at factor 1 and below nothing changes."""
    for row in studies.upscaling(replace(context(), resolutions=(0.8, 1.3))).rows:
        larger = row["enlarged_mean_tokens"] - row["own_mean_tokens"]
        assert larger >= 0 and (larger > 0) == (row["resolution"] > 1)
        assert larger > 0 or row["gain"] == 0


def test_aspect_of_a_model_trained_on_squares():
    data = replace(context().config.data, resolution=Square(Native(0.5, 0.8)))
    squares = replace(context(), config=replace(context().config, data=data))
    assert studies.aspect(squares).rows == studies.aspect(context()).rows


def test_dropping_compares_at_equal_tokens():
    (row,) = studies.dropping(context()).rows
    assert 0 < row["drop_rate"] < 1
    assert 0 <= row["resize_mean_tokens"] - row["drop_mean_tokens"] < 1  # each image is rounded down
    top = context().look(context().sampling_at(0.8))
    dropped = context().look(context().sampling_at(0.8), Constant(row["drop_rate"]))
    assert (dropped.tokens <= top.tokens).all()
    assert not np.allclose(dropped.output, top.output)


def test_dropping_needs_a_smaller_resolution():
    with pytest.raises(ConfigError, match="add a smaller one"):
        studies.dropping(replace(context(), resolutions=(0.8,)))


def test_a_cascade_mends_what_the_cheap_look_is_unsure_of():
    """Cheap: right exactly where sure, three times in four. Better: always right, four times the cost."""
    right = np.arange(200) % 4 > 0
    cheap, better = synthetic(right, 1e9), synthetic(np.ones(200), 4e9)
    taken = {
        (context().sampling_at(r), NOTHING, forward, SMALL.patch_size): look for r, look in zip(RESOLUTIONS, (cheap, better))
    }
    rows = studies.cascade(replace(context(), taken=taken)).rows
    assert [(row["cheap"], row["better"]) for row in rows] == [(0.5, None), (0.5, 0.8)]
    assert rows[1]["accuracy"] == 1.0
    share = 1 - halves(cheap)[1].correct.mean()
    assert_close(rows[1]["share"], share, FLOAT64)
    assert_close(rows[1]["mean_gflops"], 1 + 4 * share, FLOAT64)
    assert_close(1 / rows[1]["images_per_second"], (1 + 4 * share) * 1e6, FLOAT64)


def test_a_probe_reads_what_the_features_say():
    rng = np.random.default_rng(0)

    def seen(count):
        labels = rng.integers(0, 10, count).astype(np.int32)
        x = np.eye(10)[labels] + 0.05 * rng.normal(size=(count, 10))
        return Look(np.arange(count), labels, x, np.ones(count, int), np.ones(count), 1.0, 0, 0)

    assert fit(seen(100), seen(50), seen(50), 10)[0] == 1.0
    noise = seen(100)._replace(output=rng.normal(size=(100, 10)))
    assert fit(noise, seen(50), seen(50), 10)[0] < 0.5


def test_shots_are_nested():
    labels = np.array([2, 0, 1, 0, 2, 2, 1], np.int32)
    assert first_of_each(labels, 1).tolist() == [True, True, True, False, False, False, False]
    assert first_of_each(labels, 2).tolist() == [True, True, True, True, True, False, True]


def test_a_subset_holds_the_chosen_images():
    source = context().source
    part = subset(source, np.array([5, 3]))
    np.testing.assert_array_equal(part.image(1), source.image(3))
    assert part.manifest.labels.tolist() == source.manifest.labels[[5, 3]].tolist()
    assert part.manifest.name(0) == source.manifest.name(5)


# the choice at the end ----------------------------------------------------------------------------


@given(seed=seeds, points=st.floats(0, 30))
def test_the_cheapest_good_setting(seed, points):
    rng = np.random.default_rng(seed)
    rows = [{"accuracy": a, "mean_gflops": g} for a, g in zip(rng.random(6), rng.random(6))]
    row = cheapest_within(rows, points)
    best = max(each["accuracy"] for each in rows)
    assert row["accuracy"] >= best - points / 100 - 1e-9
    assert not any(e["mean_gflops"] < row["mean_gflops"] and e["accuracy"] >= best - points / 100 for e in rows)
    assert cheapest_within(rows, 0)["accuracy"] == best
    assert cheapest_within(rows, 100)["mean_gflops"] == min(e["mean_gflops"] for e in rows)


# what is written ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", studies.STUDIES)
def test_a_study_leaves_a_table_and_a_picture(name, tmp_path, capsys):
    """And every column is explained in the documentation."""
    findings = studies.publish(name, context(), tmp_path)
    said = capsys.readouterr().out
    assert findings.title in said and findings.summary in said
    with (tmp_path / f"{name}.csv").open() as file:
        lines = list(csv.DictReader(file))
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert len(lines) == len(written) == len(findings.rows)
    assert written == findings.rows
    assert Image.open(tmp_path / findings.picture).size[0] > 300
    page = (ROOT / "docs" / "evaluation.md").read_text()
    for column in findings.rows[0]:
        side, _, rest = column.partition("_")
        assert f"`{column}`" in page or (f"`{side}_`" in page and f"`{rest}`" in page), column


def test_a_look_is_the_same_again():
    """Dropped tokens included."""
    law, dropping = context().sampling_at(0.8), Constant(0.5)
    again = replace(context(), taken={}).look(law, dropping)
    np.testing.assert_array_equal(again.output, context().look(law, dropping).output)


def test_unknown_studies_are_refused_with_the_nearest():
    assert studies.chosen([]) == ["sweep"]
    assert studies.chosen(["all"]) == [*studies.STUDIES]
    assert studies.chosen(["probe", "aspect"]) == ["sweep", "aspect", "probe"]
    with pytest.raises(ConfigError, match="'cascades', did you mean cascade"):
        studies.chosen(["cascades"])
    with pytest.raises(ConfigError, match="Studies: sweep, aspect"):
        studies.chosen(["xyzzy"])


def test_the_command(tmp_path, capsys):
    """On a saved run: the sweep, what was asked for, the choice, and what else there is."""
    config, model = context().config, context().model
    save_model(tmp_path / "model", model, config.model, {"classes": list(context().source.manifest.classes)})
    options = Options(config.data, resolutions=RESOLUTIONS, within=100, out=str(tmp_path / "new"))
    evaluate(tmp_path, config, options)
    said = capsys.readouterr().out
    assert "cheapest within 100 points of the best (sweep): resolution 0.5" in said
    assert (
        "more studies: --studies aspect upscaling dropping calibration probe cascade patches similarity, or all" in said
    )
    assert {file.name for file in (tmp_path / "new").iterdir()} == {"sweep.csv", "sweep.json", "accuracy_tokens.png"}
    rows = json.loads((tmp_path / "new" / "sweep.json").read_text())
    assert [row["accuracy"] for row in rows] == [row["accuracy"] for row in studies.sweep(context()).rows]


def test_a_table_says_once_what_is_the_same_everywhere():
    text = table([{"a_b": 1.0, "n": 5, "in": {"c": None}}, {"a_b": 0.25, "n": 5, "in": {"c": 12345.6}}])
    assert text.splitlines()[:4] == ["   a", "   b      c", "   1      -", "0.25  12346"]
    assert text.endswith("in all rows: n 5")
