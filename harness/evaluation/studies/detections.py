"""Average precision by class and by size of boxes, and the worst images with truth beside prediction."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.boxes import COUNTS, Boxes, corners_of
from data.errors import BadImage
from data.manifest import printable
from data.tasks.detect import SURE, Detect, average, blind, boxes_in, by_class, matches
from navit_eqx.errors import check
from reference.evaluation.average_precision import average_precision, recall

from ..found_boxes import sure
from ..overlays import Panel, draw_boxes, draw_sheet
from ..pictures import displayable
from ..predictions import Context, Predictions
from .findings import Findings

WORST, ACROSS = 12, 2  # images in the picture, in a row of it
SIDES = (0, 16, 32, 96, 10_000)  # of boxes: below 16 x 16 pixels, and COCO's small, medium and large
HALF = 0  # place of IoU 0.5


def detections(context: Context) -> Findings:
    """Which boxes are found?   Raises ConfigError where the task finds none."""
    check(isinstance(context.task, Detect), "this study needs boxes: train with --task detect")
    resolution = context.config.data.reported_at
    predictions, manifest = context.predict(context.sampling_at(resolution)), context.source.manifest
    found = by_class(matches(predictions.outputs, predictions.image_ids, manifest))
    unseen = by_class(matches(blind(manifest, predictions.image_ids), predictions.image_ids, manifest))
    rows = []
    for label, parts in sorted(found.items()):
        ap, taken = average_precision(parts), recall(parts)
        if not np.isnan(ap).any():
            name = printable(manifest.classes[label])
            floor = float(average_precision(unseen[label])[HALF])
            rows.append(row_of(name, float(ap.mean()), float(ap[HALF]), float(taken[HALF]), parts, floor))
    rows.sort(key=lambda row: row["score"])
    worst = rows[0]
    for low, high in zip(SIDES, SIDES[1:]):
        parts = matches(predictions.outputs, predictions.image_ids, manifest, (low**2, high**2))
        ap, half, _ = average(parts)
        every = [part for parts in by_class(parts).values() for part in parts]
        if not np.isnan(ap):
            name = f"{low} to {high} pixels" if high < SIDES[-1] else f"from {low} pixels"
            rows.append(row_of(name, ap, half, float(recall(every)[HALF]), every))
    return Findings(
        f"detections: {context.metric} by class, worst first, and by side of boxes, at resolution {resolution:g}",
        rows,
        f"worst class: {worst['boxes_of']}, {context.metric} {worst['score']:.3f}; the picture has the {WORST} images "
        f"with the lowest F-score of detections with a score of at least {SURE}: truth left, found right",
        "detections.png",
        partial(draw, context, predictions),
    )


def row_of(name: str, ap: float, half: float, taken: float, parts: list[Any], floor: float | None = None) -> dict:
    """A row of the table: AP, AP at IoU 0.5 and that of boxes of median size on a grid, recall, number of boxes."""
    return {
        "boxes_of": name,
        "score": ap,
        "ap50": half,
        "ap50_blind": floor,
        "recall50": taken,
        "boxes": sum(part.boxes for part in parts),
    }


def draw(context: Context, predictions: Predictions, path: Path) -> None:
    """Draw the images with the lowest scores: truth beside prediction."""
    order = np.argsort(predictions.scores, kind="stable")[:WORST]
    panels = []
    for k in order.tolist():
        image = int(predictions.image_ids[k])
        try:
            panels.append(pair_of(context, image, predictions.outputs[k], float(predictions.scores[k])))
        except BadImage:
            continue
    rows = [[panel for pair in panels[i : i + ACROSS] for panel in pair] for i in range(0, len(panels), ACROSS)]
    names = [printable(name) for name in context.source.manifest.classes]
    draw_sheet(rows, path, [(name, number) for number, name in enumerate(names)])


def pair_of(context: Context, image: int, output: np.ndarray, score: float) -> list[Panel]:
    """An image with its true boxes, and with the boxes that were found."""
    manifest = context.source.manifest
    pixels = displayable(context.source.image(image), context.config.model)
    truth: Boxes = boxes_in(manifest).of(image)
    truth = truth.only(truth.kinds == COUNTS)
    found = sure(output, SURE)
    corners = corners_of(found[:, :4], (pixels.shape[0], pixels.shape[1]))
    shown = draw_boxes(pixels, truth.corners, truth.classes.tolist())
    return [
        Panel(f"{manifest.name(image)}: {len(truth.classes)} true", shown),
        Panel(f"found {len(found)}, F {score:.2f}", draw_boxes(pixels, corners, found[:, 5].astype(int).tolist())),
    ]
