"""Studies of a small model on a few digit strips: what they compare is comparable, what they write is documented."""

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from data.plan import NOTHING
from data.sampling.dropping import Constant
from data.sampling.resolution import Native, Square
from data.sources.source import Chosen
from evaluate import Options, evaluate
from harness.evaluation import studies
from harness.evaluation.predictions import forward_flops, halves, on_common_images
from harness.evaluation.studies.findings import cheapest_within, compare
from harness.evaluation.studies.probe import Features, first_of_each, fit
from harness.evaluation.studies.sweep import tokens_at
from harness.evaluation.tables import table
from navit_eqx.errors import ConfigError
from navit_eqx.inference import forward, pooled
from navit_eqx.tasks.config import Classify, MultiLabel, Sigmoid
from reference.evaluation.calibration import sigmoid, softmax
from reference.evaluation.cost import image_flops
from tests.support.html import is_whole
from tests.support.predictions import synthetic
from tests.support.strategies import seeds
from tests.support.studies import RESOLUTIONS, SMALL, SOFTMAX, context, saved_run
from tests.support.tolerances import EXACT, FLOAT32, FLOAT64, assert_close

ROOT = Path(__file__).parent.parent


def sampled(resolution: float):
    return context().sampling_at(resolution)


# what predictions are -----------------------------------------------------------------------------------


def test_predictions_are_of_every_image_once_with_its_tokens():
    manifest = context().source.manifest
    for resolution in RESOLUTIONS:
        seen = context().predict(sampled(resolution))
        assert seen.image_ids.tolist() == list(range(60))
        np.testing.assert_array_equal(seen.correct, seen.outputs.argmax(-1) == manifest.labels)
        grids = Native(resolution, resolution).grids(np.random.default_rng(0), manifest.sizes, (8, 8))
        np.testing.assert_array_equal(seen.tokens, grids.prod(-1))


def test_features_come_before_the_head():
    head, law = context().model.task.head, sampled(0.8)
    x = context().predict(law, output=pooled).outputs
    assert x.shape == (60, SMALL.width)
    assert_close(x @ np.asarray(head.w) + np.asarray(head.b), context().predict(law).outputs, FLOAT32)


@given(tokens=st.lists(st.integers(1, 400), min_size=1, max_size=8))
def test_flops_are_summed_over_the_images(tokens):
    each = forward_flops(np.array(tokens), SMALL, context().config)
    assert_close(each, [image_flops(n, **SMALL.sizes, classes=10) for n in tokens], FLOAT64)
    at_the_mean = image_flops(float(np.mean(tokens)), **SMALL.sizes, classes=10)
    assert at_the_mean <= each.mean() * (1 + EXACT)
    if max(tokens) > 2 * min(tokens):
        assert at_the_mean < each.mean()  # what a cost at the mean number of tokens would miss


def test_halves_are_two_halves():
    seen = context().predict(sampled(0.8))
    first, second = halves(seen)
    assert len(first.scores) == len(second.scores) == 30
    assert sorted([*first.image_ids, *second.image_ids]) == seen.image_ids.tolist()
    again = halves(context().predict(sampled(0.5)))
    np.testing.assert_array_equal(first.image_ids, again[0].image_ids)
    with pytest.raises(ConfigError, match="halved"):
        halves(seen.only(seen.image_ids == 0))


def test_differences_are_between_the_same_images():
    """The first could not read image 0, which the second gets wrong: that is no difference between them."""
    whole = synthetic([False, True, True], 1)
    part = synthetic([True, True, True], 1).only(np.array([False, True, True]))
    row = compare(("a", "b"), part, whole)
    assert (row["gain"], row["images"], row["b_score"]) == (0.0, 2, 1.0)
    assert [each.image_ids.tolist() for each in on_common_images([part, whole])] == [[1, 2], [1, 2]]
    with pytest.raises(ConfigError, match="no image can be read"):
        on_common_images([part, whole.only(whole.image_ids == 0)])


# what the studies compare -------------------------------------------------------------------------


def test_aspect_compares_at_equal_tokens():
    for resolution in RESOLUTIONS:
        law = sampled(resolution)
        kept, squashed = context().predict(law).tokens, context().predict(Square(law)).tokens
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
    top = context().predict(sampled(0.8))
    dropped = context().predict(sampled(0.8), Constant(row["drop_rate"]))
    assert (dropped.tokens <= top.tokens).all()
    assert not np.allclose(dropped.outputs, top.outputs)


def test_dropping_needs_a_smaller_resolution():
    with pytest.raises(ConfigError, match="add a smaller one"):
        studies.dropping(replace(context(), resolutions=(0.8,)))


def test_a_cascade_mends_what_the_cheap_prediction_is_unsure_of():
    """Cheap: right exactly where sure, three times in four. Better: always right, four times the cost."""
    right = np.arange(200) % 4 > 0
    cheap, better = synthetic(right, 1e9), synthetic(np.ones(200), 4e9)
    cache = {(sampled(r), NOTHING, forward, SMALL.patch): seen for r, seen in zip(RESOLUTIONS, (cheap, better))}
    rows = studies.cascade(replace(context(), cache=cache)).rows
    assert [(row["cheap"], row["better"]) for row in rows] == [(0.5, None), (0.5, 0.8)]
    assert rows[1]["score"] == 1.0
    share = 1 - halves(cheap)[1].correct.mean()
    assert_close(rows[1]["share"], share, FLOAT64)
    assert_close(rows[1]["mean_gflops"], 1 + 4 * share, FLOAT64)
    assert_close(1 / rows[1]["images_per_second"], (1 + 4 * share) * 1e6, FLOAT64)


def test_a_probe_reads_what_the_features_say():
    rng = np.random.default_rng(0)

    def seen(count):
        labels = rng.integers(0, 10, count).astype(np.int32)
        x = np.eye(10)[labels] + 0.05 * rng.normal(size=(count, 10))
        return Features(x, labels)

    assert fit(seen(100), seen(50), seen(50), 10)[0] == 1.0
    noise = seen(100)._replace(values=rng.normal(size=(100, 10)))
    assert fit(noise, seen(50), seen(50), 10)[0] < 0.5


def test_shots_are_nested():
    labels = np.array([2, 0, 1, 0, 2, 2, 1], np.int32)
    assert first_of_each(labels, 1).tolist() == [True, True, True, False, False, False, False]
    assert first_of_each(labels, 2).tolist() == [True, True, True, True, True, False, True]


def test_a_subset_holds_the_chosen_images():
    source = context().source
    part = Chosen(source, np.array([5, 3]))
    np.testing.assert_array_equal(part.image(1), source.image(3))
    assert part.manifest.labels.tolist() == source.manifest.labels[[5, 3]].tolist()
    assert part.manifest.name(0) == source.manifest.name(5)


# the choice at the end ----------------------------------------------------------------------------


@given(seed=seeds, points=st.floats(0, 30))
def test_the_cheapest_good_setting(seed, points):
    rng = np.random.default_rng(seed)
    rows = [{"score": a, "mean_gflops": g} for a, g in zip(rng.random(6), rng.random(6))]
    row = cheapest_within(rows, points)
    best = max(each["score"] for each in rows)
    assert row["score"] >= best - points / 100 - EXACT
    assert not any(e["mean_gflops"] < row["mean_gflops"] and e["score"] >= best - points / 100 for e in rows)
    assert cheapest_within(rows, 0)["score"] == best
    assert cheapest_within(rows, 100)["mean_gflops"] == min(e["mean_gflops"] for e in rows)


# what is written ----------------------------------------------------------------------------------

# Columns that a picture shows: across, up.
DRAWN = {
    "sweep": [("mean_tokens", "score")],
    "aspect": [("kept_mean_tokens", "kept_score"), ("squashed_mean_tokens", "squashed_score")],
    "upscaling": [("enlarged_mean_tokens", "enlarged_score"), ("own_mean_tokens", "own_score")],
    "dropping": [("resize_mean_tokens", "resize_score"), ("drop_mean_tokens", "drop_score")],
    "merge": [(f"{side}_mean_tokens", f"{side}_score") for side in ("merge", "resize", "drop", "whole")],
    "calibration": [("mean_tokens", "ece"), ("mean_tokens", "ece_scaled"), ("mean_tokens", "ece_perfect")],
    "probe": [("shots", "score")],
    "cascade": [("mean_gflops", "score")],
    "patches": [("mean_gflops", "score"), ("ensemble_gflops", "ensemble")],
    "similarity": [("layer", "cka"), ("layer", "same_place")],
    "attention": [("layer", "distance")],
    "corruptions": [("severity", "score")],
    "crops": [],  # bars: tests/test_label_map.py
    "attributes": [],  # marks over names: tests/test_attributes.py
    "mistakes": [],  # images and counts: see below
    "retrieval": [],  # of texts: tests/test_contrast.py
    "zeroshot": [],
    "detections": [],  # of boxes: tests/test_detect_run.py
    "masks": [],  # of masks: tests/test_segment.py
    "frames": [],  # of clips: tests/test_clip_runs.py
    "leaks": [],
    "trade_off": [],  # of a budget: tests/test_trade_off.py
}


@pytest.fixture
def drawn(monkeypatch):
    """Points of the lines of every picture that is made, however it is saved."""
    found: list[tuple[float, float]] = []
    save = Figure.savefig

    def savefig(figure, *arguments, **options):
        for axis in figure.axes:
            found.extend((float(x), float(y)) for line in axis.lines for x, y in zip(*line.get_data()))
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return found


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "corruptions" else name
        for name in studies.suited(("sweep", "mistakes"))
    ],
)
def test_a_study_leaves_a_table_and_a_picture(name, tmp_path, capsys, drawn):
    """The picture shows the numbers of the table, and every column is explained in the documentation."""
    findings = studies.publish(name, context(), tmp_path)
    said = capsys.readouterr().out
    assert findings.title in said and findings.summary in said
    with (tmp_path / f"{name}.csv").open() as file:
        lines = list(csv.DictReader(file))
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert len(lines) == len(written) == len(findings.rows)
    assert written == [studies.named(row, "accuracy") for row in findings.rows]
    assert "score" not in " ".join(written[0]) and {"accuracy", "gain", "cka", "distance"} & {*written[0]}
    points = {(f"{x:.6g}", f"{y:.6g}") for x, y in drawn}
    for across, up in DRAWN[name]:
        shown = {(f"{row[across]:.6g}", f"{row[up]:.6g}") for row in findings.rows}
        assert up == "ensemble" or shown <= points, f"{up} is not in the picture"
        assert shown & points
    with Image.open(tmp_path / findings.picture) as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50
    page = (ROOT / "docs" / "evaluation.md").read_text()
    for column in written[0]:
        side, _, rest = column.partition("_")
        assert f"`{column}`" in page or (f"`{side}_`" in page and f"`{rest}`" in page), column


def test_mistakes_are_those_of_each_class(tmp_path, monkeypatch):
    """Worst first; the picture shows the counts, and the images that the model is most sure of and wrong about."""
    images, texts = [], []
    monkeypatch.setattr(Axes, "imshow", lambda axis, image, **how: images.append(np.asarray(image)))
    monkeypatch.setattr(Axes, "text", lambda axis, x, y, text, **how: texts.append((y, x, text)))
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **how: path.touch())
    source, seen = context().source, context().predict(sampled(0.8))
    labels, said = source.manifest.labels, seen.outputs.argmax(-1)
    findings = studies.mistakes(context())
    findings.draw(tmp_path / "mistakes.png")
    scores = [row["score"] for row in findings.rows]
    assert scores == sorted(scores) and sum(row["images"] for row in findings.rows) == len(labels)
    for row in findings.rows:
        mine = said[labels == int(row["class"])]
        wrong = np.bincount(mine[mine != int(row["class"])], minlength=10)
        assert row["score"] == (mine == int(row["class"])).mean() and row["times"] == wrong.max()
        assert row["taken_for"] is None if not wrong.any() else wrong[int(row["taken_for"])] == wrong.max()
    counts = {(y, x): int(text) for y, x, text in texts if text}
    assert counts == {(y, x): n for (y, x), n in Counter(zip(labels.tolist(), said.tolist())).items()}
    sure = np.where(said == labels, -1, softmax(seen.outputs.astype(float)).max(-1))
    worst = np.argsort(-sure, kind="stable")[: min(12, int((said != labels).sum()))]
    for image, index in zip(images[1:], worst, strict=True):
        np.testing.assert_array_equal(image, source.image(int(index)))


def test_every_study_has_a_picture_that_is_looked_at():
    assert DRAWN.keys() == studies.STUDIES.keys()


def test_predictions_are_the_same_again():
    """Dropped tokens included."""
    law, dropping = sampled(0.8), Constant(0.5)
    again = replace(context(), cache={}).predict(law, dropping)
    np.testing.assert_array_equal(again.outputs, context().predict(law, dropping).outputs)


# other tasks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task, link", [(SOFTMAX, softmax), (Classify(Sigmoid(), 10), sigmoid), (MultiLabel(10), sigmoid)]
)
def test_confidence_is_read_as_the_task_was_trained(task, link):
    """The calibration of a model trained with sigmoid is that of sigmoids, whatever softmax would say."""
    rows = studies.calibration(context(task)).rows
    for row, resolution in zip(rows, RESOLUTIONS):
        test = halves(context(task).predict(sampled(resolution)))[1]
        want = [f(test.outputs.astype(float)).max(-1).mean() for f in (link, sigmoid if link is softmax else softmax)]
        assert_close(row["confidence"], want[0], EXACT)
        assert abs(row["confidence"] - want[1]) > 0.01


def test_label_sets_are_scored_by_their_own_metric(tmp_path):
    """The columns carry the name of the metric."""
    findings = studies.publish("sweep", context(MultiLabel(10)), tmp_path)
    rows = json.loads((tmp_path / "sweep.json").read_text())
    assert [row["precision_at_1"] for row in rows] == [row["score"] for row in findings.rows]
    assert {"precision_at_1_se", "mean_average_precision"} <= {*rows[0]} and "accuracy" not in rows[0]


def test_unknown_studies_are_refused_with_the_nearest():
    assert studies.chosen([], ("sweep", "mistakes")) == ["sweep", "mistakes"]
    assert studies.chosen(["all"], ("sweep", "mistakes")) == studies.suited(("sweep", "mistakes"))
    assert studies.chosen(["probe", "aspect"], ("sweep", "mistakes")) == ["sweep", "mistakes", "aspect", "probe"]
    with pytest.raises(ConfigError, match="'cascades', did you mean cascade"):
        studies.chosen(["cascades"], ("sweep", "mistakes"))
    with pytest.raises(ConfigError, match="Studies: sweep, mistakes, calibration"):
        studies.chosen(["xyzzy"], ("sweep", "mistakes"))


def test_the_command(tmp_path, capsys):
    """On a saved run: the sweep, what was asked for, the choice, and what else there is."""
    config = context().config
    options = Options(config.data, split="val", resolutions=RESOLUTIONS, within=100, out=str(tmp_path / "new"))
    evaluate(saved_run(tmp_path, context()), config, options)
    said = capsys.readouterr().out
    assert "cheapest within 100 points of the best (sweep): resolution 0.5" in said
    assert "more studies: --studies aspect upscaling dropping merge probe cascade patches similarity crops" in said
    always = ("sweep", "mistakes", "calibration", "attention")
    files = {f"{name}.{kind}" for name in always for kind in ("csv", "json")} | {"findings.json", "report.html"}
    pictures = {"accuracy_tokens.png", "mistakes.png", "calibration.png", "attention_maps.png"}
    assert {file.name for file in (tmp_path / "new").iterdir()} == files | pictures
    page = is_whole((tmp_path / "new" / "report.html").read_text())
    assert len(page.all("img")) == len(pictures) and "digit strips" in page.text
    rows = json.loads((tmp_path / "new" / "sweep.json").read_text())
    assert [row["accuracy"] for row in rows] == [row["score"] for row in studies.sweep(context()).rows]


@given(tokens=st.lists(st.floats(1, 500), min_size=2, max_size=5, unique=True))
def test_the_shaded_range_is_that_of_training(tokens):
    """At a row its tokens, between two rows between them, beyond all the last ones."""
    rows = [{"resolution": 2.0**i, "mean_tokens": n} for i, n in enumerate(sorted(tokens))]
    found = tokens_at(rows[::-1], [0.1, *(row["resolution"] for row in rows), 1e4, 1.5])
    assert_close(found[:-1], [min(tokens), *sorted(tokens), max(tokens)], FLOAT64)
    assert rows[0]["mean_tokens"] <= found[-1] <= rows[1]["mean_tokens"] * (1 + EXACT)


def test_a_resolution_at_which_nothing_fits_ends_no_other_study(tmp_path, monkeypatch, capsys):
    seen = []

    def recorded(context):
        seen.append(context.resolutions)
        rows = [{"resolution": r, "images": 0 if r > 2 else 9} for r in context.resolutions]
        return studies.Findings("", rows, "", "a.png", lambda path: path.write_bytes(b""))

    monkeypatch.setattr(studies, "STUDIES", {"sweep": recorded, "other": recorded})
    for asked in ((1.0, 3.0, 0.5, 60.0), (2.0, 1.0)):
        assert not studies.publish_all(["sweep", "other"], replace(context(), resolutions=asked), tmp_path).failed
    assert seen == [(1.0, 3.0, 0.5, 60.0), (1.0, 0.5), (2.0, 1.0), (2.0, 1.0)]
    assert capsys.readouterr().out.count("resolution 3, 60: left out") == 1


def test_a_table_says_once_what_is_the_same_everywhere():
    text = table([{"a_b": 1.0, "n": 5, "in": {"c": None}}, {"a_b": 0.25, "n": 5, "in": {"c": 12345.6}}])
    assert text.splitlines()[:4] == ["   a", "   b      c", "   1      -", "0.25  12346"]
    assert text.endswith("in all rows: n 5")
