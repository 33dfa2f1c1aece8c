"""Average precision is that of COCO: equal to two libraries on random detections, crowds and areas included."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings

from reference.evaluation import average_precision as ap
from tests.support.laws import caught
from tests.support.strategies import seeds
from tests.support.tolerances import EXACT, assert_close

CLASSES, IMAGES = 2, 4
SMALL = (0.0, 32.0**2)


def scene(seed: int) -> tuple[list[dict], list[dict]]:
    """True boxes (a few crowds) and detections of some images in COCO's form: near true boxes, doubled, or anywhere."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for image in range(1, IMAGES + 1):
        for _ in range(rng.integers(0, 5)):
            box = np.concatenate([rng.integers(0, 60, 2), rng.integers(8, 60, 2)]).astype(float)
            label, crowd = int(rng.integers(1, CLASSES + 1)), int(rng.random() < 0.2)
            truth.append({"id": len(truth) + 1, "image_id": image, "category_id": label, "bbox": box.tolist(),
                          "area": float(box[2] * box[3] * rng.choice([1.0, 0.7])), "iscrowd": crowd})  # fmt: skip
            for _ in range(rng.integers(0, 3)):
                moved = box + rng.integers(-6, 7, 4) * rng.integers(0, 2)
                found.append((image, label, np.maximum(moved, [0, 0, 1, 1])))
        for _ in range(rng.integers(0, 4)):
            anywhere = np.concatenate([rng.integers(0, 60, 2), rng.integers(8, 60, 2)]).astype(float)
            found.append((image, int(rng.integers(1, CLASSES + 1)), anywhere))
    scores = rng.choice([0.9, 0.8, 0.5, 0.3, 0.2], len(found)) if rng.random() < 0.5 else rng.random(len(found))
    return truth, [
        {"image_id": image, "category_id": label, "bbox": box.tolist(), "score": float(score)}
        for (image, label, box), score in zip(found, scores)
    ]


def ours(truth: list[dict], found: list[dict], within=ap.ALL, most: int = ap.MOST) -> list[list[ap.Matches]]:
    """Matches by class and image."""

    def of(entries: list[dict], image: int, label: int) -> list[dict]:
        return [e for e in entries if e["image_id"] == image and e["category_id"] == label]

    def boxes(entries: list[dict]) -> np.ndarray:
        return np.array([e["bbox"] for e in entries], float).reshape(-1, 4)

    def one(image: int, label: int) -> ap.Matches:
        mine, known = of(found, image, label), of(truth, image, label)
        scores = np.array([e["score"] for e in mine], float)
        crowd, area = np.array([e["iscrowd"] for e in known], bool), np.array([e["area"] for e in known], float)
        return ap.match(boxes(mine), scores, boxes(known), crowd, area, within=within, most=most)

    return [[one(image, label) for image in range(1, IMAGES + 1)] for label in range(1, CLASSES + 1)]


def by_library(library, truth: list[dict], found: list[dict], most: int) -> np.ndarray:
    """AP, AP50, AP75 and AP of small boxes, at most `most` detections of an image and a class; −1 for none."""
    gt = library.COCO()
    gt.dataset = {
        "images": [{"id": i} for i in range(1, IMAGES + 1)],
        "annotations": [dict(t) for t in truth],
        "categories": [{"id": c, "name": str(c)} for c in range(1, CLASSES + 1)],
        "info": {},
    }
    with contextlib.redirect_stdout(io.StringIO()):
        gt.createIndex()
        run = library.COCOeval(gt, gt.loadRes([dict(f) for f in found]), "bbox")
        run.params.maxDets = [most]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][..., -1]  # IoU, recall, class, area

    def mean(table: np.ndarray) -> float:
        return float(table[table > -1].mean()) if (table > -1).any() else -1.0

    every, small = precision[..., 0], precision[..., 1]
    return np.array([mean(every), mean(every[0]), mean(every[5]), mean(small)])


def pycocotools():
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    return type("library", (), {"COCO": coco.COCO, "COCOeval": evaluation.COCOeval})


def faster():
    library = pytest.importorskip("faster_coco_eval")
    return type("library", (), {"COCO": library.COCO, "COCOeval": library.COCOeval_faster})


@pytest.mark.parametrize("library", [pycocotools, faster])
@given(seed=seeds)
@settings(max_examples=15)
def test_it_is_that_of_coco(library, seed):
    truth, found = scene(seed)
    if not truth or not found:
        return
    for most in (2, 100):
        want = by_library(library(), truth, found, most)
        means = ap.mean_average_precision(ours(truth, found, most=most))
        small = ap.mean_average_precision(ours(truth, found, SMALL, most))[0]
        got = np.nan_to_num(np.array([*means, small]), nan=-1.0)
        assert_close(got, want, EXACT)


def as_found(truth: list[dict], rng: np.random.Generator) -> list[dict]:
    return [t | {"score": float(rng.random())} for t in truth if not t["iscrowd"]]


def truth_is_perfect_and_chance_is_not(average) -> None:
    """True boxes as detections have AP 1 in any order; the same boxes on other images have almost none."""
    rng = np.random.default_rng(0)
    truth = [t for seed in range(5) for t in scene(seed)[0] if not t["iscrowd"]]
    truth = [t | {"bbox": [float(97 * k % 400), float(53 * k % 300), 20.0, 30.0]} for k, t in enumerate(truth)]
    found = as_found(truth, rng)
    assert average(ours(truth, found)) == (1.0, 1.0, 1.0)
    moved = [f | {"image_id": f["image_id"] % IMAGES + 1} for f in found]
    assert max(average(ours(truth, moved))) < 0.05
    extra = found + [found[0] | {"score": 2.0}]
    assert average(ours(truth, extra))[0] < 1  # found twice


def test_truth_is_perfect_and_chance_is_not():
    truth_is_perfect_and_chance_is_not(ap.mean_average_precision)
    caught(truth_is_perfect_and_chance_is_not, lambda classes: (1.0, 1.0, 1.0))
    caught(truth_is_perfect_and_chance_is_not, lambda classes: (0.0, 0.0, 0.0))


def test_a_class_without_a_box_does_not_count():
    truth, found = scene(3)
    only = [t for t in truth if t["category_id"] == 1 and not t["iscrowd"]]
    assert only
    both = ap.mean_average_precision(ours(only, found))
    assert both == ap.mean_average_precision(ours(only, [f for f in found if f["category_id"] == 1]))
    assert np.isnan(ap.mean_average_precision(ours([], found))).all()
    parts = ours(only, as_found(only, np.random.default_rng(0)))
    assert (ap.recall(parts[0]) == 1).all() and np.isnan(ap.recall(parts[1])).all()
