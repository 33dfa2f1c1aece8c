"""IoU by class, beside that of a threshold, and the worst masks on their photographs, truth beside prediction."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from data.errors import BadImage
from data.manifest import printable
from data.sources.source import Chosen
from data.tasks.segment import drawn_again, truth_of
from navit_eqx.errors import ConfigError
from navit_eqx.inference import outputs
from navit_eqx.rows import row_of
from reference.evaluation.confusion import class_iou, confusion
from reference.evaluation.threshold import luma, smaller_side

from ...run.loading import evaluation_rows
from ..overlays import Panel, draw_mask, draw_sheet, plain_classes, shortened
from ..pictures import displayable
from ..predictions import Context, model_for_patch
from .findings import Findings

WORST = 8  # images in the picture


def masks(context: Context) -> Findings:
    """Which classes, and which images, are segmented badly?   Raises ConfigError where the model has no masks."""
    task: Any = context.task
    if not hasattr(task, "masks"):
        raise ConfigError("this study needs a model that gives every pixel a class: --task segment")
    resolution, manifest = context.config.data.reported_at, context.source.manifest
    found = context.predict(context.sampling_at(resolution))
    total, beside, floor = found.outputs.sum(0), "", None
    if len(manifest.classes) == 2:
        rare = int(total.sum(1).argmin())
        blind = by_brightness(context, found.image_ids, rare)
        beside, floor = f"; {printable(manifest.classes[rare])}: {compared(found.outputs, blind, rare)}", blind.sum(0)
    rows = class_rows(total, manifest.classes, floor)
    order = np.argsort(found.scores, kind="stable")[:WORST]
    value, error = found.score
    single = found.metrics["mean_iou_of_single_images"]
    return Findings(
        f"masks: IoU by class over all pixels of {len(found.image_ids)} images, worst first, at resolution "
        f"{resolution:g}",
        rows,
        f"mean IoU {value:.3f} (standard error {error:.3f}); mean over images of their own mean IoU {single:.3f}"
        f"{beside}; the picture has the {len(order)} images with the lowest means",
        "masks.png",
        partial(draw, context, resolution, found.image_ids[order].tolist(), found.scores[order].tolist()),
    )


def by_brightness(context: Context, image_ids: Int[np.ndarray, " N"], rare: int) -> Int[np.ndarray, "N 2 2"]:
    """The confusion matrix of each image where pixels on the smaller side of its own Otsu threshold are of class
    `rare`: what a model of two classes has to pass."""
    found = []
    for image in image_ids.tolist():
        photo = displayable(context.source.image(image), context.config.model)
        here = smaller_side(luma(photo))
        found.append(confusion(truth_of(context.source, image), np.where(here, rare, 1 - rare), 2))
    return np.array(found, np.int64).reshape(-1, 2, 2)


def compared(outputs: Int[np.ndarray, "N 2 2"], floor: Int[np.ndarray, "N 2 2"], rare: int) -> str:
    """The IoU of a class, that of its floor, and their difference: its error is that over images drawn again, the same
    for both."""
    one, other = class_iou(outputs.sum(0))[rare], class_iou(floor.sum(0))[rare]
    error = (class_iou(drawn_again(outputs)) - class_iou(drawn_again(floor)))[:, rare].std()
    return f"IoU {one:.3f}, by Otsu's threshold {other:.3f}, {one - other:+.3f} (standard error {error:.3f})"


def class_rows(
    total: Int[np.ndarray, "Y Y"], classes: tuple[str, ...], floor: Int[np.ndarray, "Y Y"] | None = None
) -> list[dict]:
    """IoU, recall, precision and share of the pixels of each class that occurs or is predicted; IoU of a floor."""
    iou, both = class_iou(total), total.diagonal()
    blind = [{}] * len(classes) if floor is None else [{"iou_blind": float(x)} for x in class_iou(floor)]
    rows = [
        {
            "class": printable(name),
            "iou": float(iou[y]),
            **blind[y],
            "recall": float(both[y] / total[y].sum()) if total[y].sum() else None,
            "precision": float(both[y] / total[:, y].sum()) if total[:, y].sum() else None,
            "share_of_pixels": float(total[y].sum() / max(total.sum(), 1)),
        }
        for y, name in enumerate(classes)
        if not np.isnan(iou[y])
    ]
    return sorted(rows, key=lambda row: row["iou"])


def draw(context: Context, resolution: float, ids: list[int], scores: list[float], path: Path) -> None:
    """Draw photograph, truth and prediction of images side by side."""
    predicted, classes = predictions_of(context, resolution, ids), context.source.manifest.classes
    plain = plain_classes(classes)
    rows = []
    for image, score in zip(ids, scores):
        try:
            photo = displayable(context.source.image(image), context.config.model)
        except BadImage:
            continue
        name = printable(context.source.manifest.name(image))
        panels = [
            Panel(shortened(name), photo),
            Panel("truth", draw_mask(photo, truth_of(context.source, image), plain)),
        ]
        rows.append([*panels, Panel(f"predicted, IoU {score:.2f}", draw_mask(photo, predicted[image], plain))])
    draw_sheet(rows, path, [(printable(name), y) for y, name in enumerate(classes) if y not in plain])


def predictions_of(context: Context, resolution: float, ids: list[int]) -> dict[int, UInt8[np.ndarray, "h w"]]:
    """The predicted masks of some images."""
    part, task = Chosen(context.source, ids), context.task
    model = model_for_patch(context.model, context.patch)
    batches, _ = evaluation_rows(context.config, part, context.sampling_at(resolution), patch=context.patch)
    found: dict[int, np.ndarray] = {}
    for batch, values in outputs(model, map(row_of, batches)):
        found |= task.masks(batch, values, part.manifest)  # pyright: ignore[reportAttributeAccessIssue]
    return {ids[k]: mask for k, mask in found.items()}
