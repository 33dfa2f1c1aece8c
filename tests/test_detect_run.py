"""What a user sees of detection: the study, pictures, the COCO file; and one run from its data to its predictions."""

import contextlib
import io
import json
from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import numpy as np
import pytest
from PIL import Image

from data.boxes import middles
from data.plan import NOTHING
from data.sources.boxed import Boxed
from data.sources.digit_boxes import DigitPages
from data.tasks.detect import Detect
from harness.detect_presets import detect_digits
from harness.evaluation import found_boxes
from harness.evaluation.predictions import Context, Predictions
from harness.evaluation.studies import calibration, detections, mistakes
from harness.evaluation.studies.findings import compare
from harness.run import warm_start
from navit_eqx import ModelInfo
from navit_eqx.errors import ConfigError
from navit_eqx.inference import forward
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import abstract_model
from navit_eqx.training.config import OptimConfig
from tests.support.detect import detector
from tests.support.strategies import CONFIG, filled

PAGES = DigitPages("val", 24, 0)
TASK = Detect(boxes=24, detections=14)


def outputs(seed: int = 0) -> np.ndarray:
    """Most digits, a little beside where they are, one of five with a wrong class; and a few boxes of nothing."""
    rng = np.random.default_rng(seed)
    found = np.zeros((len(PAGES.manifest), 14, 6))
    for i, size in enumerate(PAGES.manifest.sizes.tolist()):
        boxes = PAGES.manifest.boxes.of(i)
        count = len(boxes.classes)
        found[i, :, :4] = rng.uniform(0.1, 0.9, (14, 4))
        found[i, :count, :4] = middles(boxes.corners.astype(float), (size[0], size[1]))
        found[i, :count, :4] += rng.normal(0, 0.01, (count, 4))
        found[i, :, 5] = rng.integers(0, 10, 14)
        found[i, :count, 5] = np.where(rng.random(count) < 0.8, boxes.classes, found[i, :count, 5])
        found[i, :, 4] = -np.sort(-rng.random(14))
    return found


def context(found: np.ndarray) -> Context:
    """A context whose predictions are there already."""
    ids, manifest = np.arange(len(found)), PAGES.manifest
    scores = TASK.scores(found, ids, manifest)
    together = partial(TASK.score, manifest=manifest)
    known = Predictions(ids, scores, found, ids + 1, scores, 1.0, 0, 0, TASK.metrics(found, ids, manifest), together)
    config = replace(detect_digits(), task=replace(detect_digits().task, classes=10))
    case = Context(detector("hungarian"), config, PAGES, TASK, (1.0,))
    case.cache[config.data.resolution.at(1.0), NOTHING, forward, config.model.patch] = known
    return case


def test_the_study_tells_classes_and_sizes_apart(tmp_path):
    """Worst class first, then boxes by side; the parts hold all boxes; the picture has truth beside prediction."""
    found = outputs()
    findings = detections(context(found))
    boxes = PAGES.manifest.boxes
    by_class = [row for row in findings.rows if row["boxes_of"].isdigit()]
    by_side = [row for row in findings.rows if not row["boxes_of"].isdigit()]
    assert [row["score"] for row in by_class] == sorted(row["score"] for row in by_class)
    assert sum(row["boxes"] for row in by_class) == sum(row["boxes"] for row in by_side) == len(boxes.classes)
    mean = np.mean([row["score"] for row in by_class])
    assert mean == pytest.approx(TASK.score(found, np.arange(24), PAGES.manifest)[0])
    assert all(0 < row["score"] <= row["ap50"] <= 1 >= row["recall50"] for row in findings.rows)
    assert all(0 <= row["ap50_blind"] < 0.2 for row in by_class) and by_side[0]["ap50_blind"] is None
    findings.draw(tmp_path / findings.picture)
    with Image.open(tmp_path / findings.picture) as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50


def test_settings_are_compared_by_average_precision():
    """Of all images together: the gain is the difference of what the columns say."""
    case = context(outputs())
    one = case.predict(case.sampling_at(1.0))
    other = one._replace(outputs=outputs(1), scores=TASK.scores(outputs(1), one.image_ids, PAGES.manifest))
    row = compare(("kept", "squashed"), one, other)
    assert row["gain"] == row["kept_score"] - row["squashed_score"] != 0 and row["gain_se"] > 0
    with pytest.raises(ConfigError, match="needs class probabilities"):
        calibration(case)
    with pytest.raises(ConfigError, match="one class per image"):
        mistakes(case)


def test_the_coco_file_says_what_was_found():
    """Another library finds in it the average precision that we report: boxes are at the pixels of the image."""
    library = pytest.importorskip("faster_coco_eval")
    found, sizes = outputs(), PAGES.manifest.sizes.tolist()
    every = [found_boxes.found_in(f"{i}.png", o, (s[0], s[1]), 0.0) for i, (o, s) in enumerate(zip(found, sizes))]
    written = json.loads(json.dumps(found_boxes.as_coco(every, PAGES.manifest.classes)))
    truth = written | {"annotations": []}
    for i in range(len(found)):
        mine = PAGES.manifest.boxes.of(i)
        for (left, top, right, bottom), label in zip(mine.corners.tolist(), mine.classes.tolist()):
            sides = [left, top, right - left, bottom - top]
            number = len(truth["annotations"]) + 1
            box = {"id": number, "image_id": i + 1, "category_id": label + 1, "bbox": sides, "iscrowd": 0}
            truth["annotations"].append(box | {"area": sides[2] * sides[3]})
    with contextlib.redirect_stdout(io.StringIO()):
        known = library.COCO(truth | {"info": {}})
        run = library.COCOeval_faster(known, known.loadRes(written["annotations"]), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    want = TASK.score(found, np.arange(24), PAGES.manifest)[0]
    assert run.stats[0] == pytest.approx(want, abs=2e-3) and 0.2 < want < 0.9


def test_a_box_is_shown_once_with_its_best_class():
    output = np.array([[0.5, 0.5, 0.2, 0.2, 0.9, 3], [0.5, 0.5, 0.2, 0.2, 0.6, 1], [0.1, 0.1, 0.1, 0.1, 0.4, 1]])
    found = found_boxes.found_in("a b.png", output, (10, 20), 0.5)
    assert found.classes.tolist() == [3] and found.corners.tolist() == [[8, 4, 12, 6]]
    assert found_boxes.in_words(found, "abcd") == "a b.png: d 0.90 (8, 4, 12, 6)"
    assert json.loads(found_boxes.in_json(found, "abcd"))["boxes"] == [
        {"class": "d", "score": 0.9, "bbox": [8.0, 4.0, 4.0, 2.0]}
    ]
    apart = np.array([[0.9, 0.9, 0.1, 0.1, 0.8, 0], [0.1, 0.1, 0.1, 0.1, 0.6, 1]])
    assert found_boxes.found_in("x.png", apart, (10, 20), 0.5).scores.tolist() == [0.8, 0.6]  # not by place
    nothing = found_boxes.found_in("x.png", output, (10, 20), 0.95)
    assert found_boxes.in_words(nothing, "abcd") == "x.png: nothing found"


def test_every_image_has_a_picture_of_its_own(tmp_path):
    """Also where a name is that of a numbered one, or too long for a file; and no picture replaces an image."""
    names = ["a/x.png", "b/x.jpg", "b/x-1.gif", "y.gif", "a/x.png", f"{'z' * 250}.jpg", f"{'z' * 251}"]
    files = found_boxes.picture_files(tmp_path, names)
    assert [*files] == [*dict.fromkeys(names)]
    assert [file.name for file in files.values()] == [
        "x.png", "x-1.png", "x-1-1.png", "y.png", f"{'z' * 50}.png", f"{'z' * 50}-1.png"
    ]  # fmt: skip
    for given in ("x.png", "b/../x.png"):
        with pytest.raises(ConfigError, match="x.png is one of the images that are read"):
            found_boxes.picture_files(tmp_path, [str(tmp_path / given)])
    assert found_boxes.picture_files(tmp_path, [str(tmp_path / "x.jpg")])


def test_a_detector_starts_from_a_classifier_of_the_same_classes(monkeypatch, capsys):
    """It keeps the tower, and has heads of its own."""
    classes = ("a", "b", "c")
    saved = filled(abstract_model(CONFIG, Classify(classes=3), ModelInfo(classes)), 1, "float64")
    monkeypatch.setattr(warm_start, "trained_model", lambda start: saved)
    fresh = detector("hungarian")
    started = warm_start.warm_start(fresh, replace(detect_digits(), model=CONFIG, start="a run"), classes)
    assert "the head starts anew" in capsys.readouterr().out
    for part, like in (("backbone", saved), ("task", fresh)):
        for got, want in zip(*(jax.tree.leaves(eqx.filter(getattr(m, part), eqx.is_array)) for m in (started, like))):
            np.testing.assert_array_equal(got, want)


@pytest.mark.slow
def test_a_run_from_its_data_to_its_predictions(tmp_path, monkeypatch, capsys):
    """`train.py`, `evaluate.py` and `predict.py` on a folder in COCO's form."""
    import evaluate
    import predict
    import train

    root = tmp_path / "data"
    for split, count in (("train", 40), ("val", 8)):
        pages = DigitPages(split, count, 1)
        (root / split).mkdir(parents=True)
        every = []
        for i, size in enumerate(pages.manifest.sizes.tolist()):
            Image.fromarray(pages.image(i)).save(root / split / f"{i}.png")
            mine = pages.manifest.boxes.of(i)
            scores = np.ones(len(mine.classes))
            every.append(
                found_boxes.Found(
                    f"{i}.png", (size[0], size[1]), mine.corners.astype(float), mine.classes.astype(int), scores
                )
            )
        (root / f"{split}.json").write_text(json.dumps(found_boxes.as_coco(every, pages.manifest.classes)))
    base = detect_digits()
    model = replace(base.model, width=16, depth=1, heads=2, mlp_width=16, unroll=1)
    data = replace(base.data, source=Boxed(), root=str(root), eval_resolutions=(0.8, 1.0))
    config = replace(base, model=model, data=data, optim=OptimConfig(), steps=3, rows=8, out=str(tmp_path))
    with jax.numpy_dtype_promotion("standard"):  # Optax multiplies floats by integer step counts
        train.train(config, "detect-digits")
    run = tmp_path / "detect-digits"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["val_average_precision"] >= 0 and "ap50" in summary["sweep"][0] and summary["compiles"] == 1
    assert (run / "detections.png").is_file() and "average_precision" in (run / "detections.csv").read_text()
    monkeypatch.setattr("sys.argv", ["evaluate.py", str(run), "--resolutions", "1", "--patch-size", "12"])
    evaluate.main()
    arguments = [str(run), str(root / "val"), "--out", str(tmp_path / "found"), "--least", "0"]
    monkeypatch.setattr("sys.argv", ["predict.py", *arguments])
    predict.main()
    assert "0.png: " in capsys.readouterr().out
    written = json.loads((tmp_path / "found" / found_boxes.FILE).read_text())
    assert len(written["images"]) == 8 and written["annotations"] and len(written["categories"]) == 10
    with Image.open(tmp_path / "found" / "0.png") as picture, Image.open(root / "val" / "0.png") as own:
        assert picture.size == own.size
