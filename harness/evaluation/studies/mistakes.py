"""Accuracy by class, confusion of classes, and the mistakes of the highest confidence."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num
from matplotlib.figure import Figure

from data.errors import BadImage
from data.manifest import printable

from ..pictures import displayable, save
from ..predictions import Context, labels_of
from .calibration import link
from .findings import Findings

WORST = 12  # images in the picture
MOST_CLASSES = 30  # classes in the picture, those with the most mistakes


class Mistake(NamedTuple):
    """An image, its class, the predicted class, and the confidence of the prediction."""

    image: Num[np.ndarray, "h w C"]
    label: str
    predicted: str
    confidence: float


def mistakes(context: Context) -> Findings:
    """Which classes have low accuracy?   Raises ConfigError for label sets."""
    resolution = context.config.data.reported_at
    predictions, classes = context.predict(context.sampling_at(resolution)), context.source.manifest.classes
    labels = labels_of(context.source.manifest)[predictions.image_ids]
    probabilities = link(context)(predictions.outputs.astype(float))
    found = confusion(labels, probabilities.argmax(-1), len(classes))
    rows = [class_row(found, y, classes) for y in range(len(classes)) if found[y].sum()]
    worst = min(rows, key=lambda row: row["score"])
    return Findings(
        f"mistakes: {context.metric} by class, worst first, at resolution {resolution:g}",
        sorted(rows, key=lambda row: row["score"]),
        f"worst class: {worst['class']}, {context.metric} {worst['score']:.3f} on {worst['images']} images; "
        f"the picture has the {WORST} mistakes of the highest confidence",
        "mistakes.png",
        partial(draw, found, classes, surest(context, predictions.image_ids, labels, probabilities)),
        most=10,
    )


def confusion(labels: Int[np.ndarray, " N"], predicted: Int[np.ndarray, " N"], classes: int) -> Int[np.ndarray, "Y Y"]:
    """Number of images by class (rows) and predicted class (columns)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def class_row(found: Int[np.ndarray, "Y Y"], label: int, classes: tuple[str, ...]) -> dict:
    """One row of the table: accuracy of a class, and the most frequent wrong prediction."""
    others = found[label].copy()
    others[label] = 0
    taken_for = int(others.argmax())
    return {
        "class": printable(classes[label]),
        "score": float(found[label, label] / found[label].sum()),
        "images": int(found[label].sum()),
        "taken_for": printable(classes[taken_for]) if others.any() else None,
        "times": int(others[taken_for]),
    }


def surest(
    context: Context,
    image_ids: Int[np.ndarray, " N"],
    labels: Int[np.ndarray, " N"],
    probabilities: Float[np.ndarray, "N Y"],
) -> list[Mistake]:
    """The mistakes of the highest confidence, without unreadable images."""
    predicted, confidence = probabilities.argmax(-1), probabilities.max(-1)
    wrong = np.flatnonzero(predicted != labels)
    names = [printable(name) for name in context.source.manifest.classes]
    found = []
    for i in wrong[np.argsort(-confidence[wrong], kind="stable")][:WORST]:
        try:
            image = context.source.image(int(image_ids[i]))
        except BadImage:
            continue
        found.append(
            Mistake(
                displayable(image, context.config.model), names[labels[i]], names[predicted[i]], float(confidence[i])
            )
        )
    return found


def draw(found: Int[np.ndarray, "Y Y"], classes: tuple[str, ...], worst: list[Mistake], path: Path) -> None:
    """Draw the confusion of the classes with the most mistakes, and the mistakes of the highest confidence."""
    figure = Figure(figsize=(13, 6.2), layout="constrained")
    left, right = figure.subfigures(1, 2).ravel()  # pyright: ignore[reportAttributeAccessIssue]
    draw_confusion(left.subplots(), found, classes)
    panels = right.subplots(3, 4, squeeze=False).ravel()
    for axis in panels:
        axis.set_axis_off()
    for axis, mistake in zip(panels, worst):
        axis.imshow(mistake.image)
        axis.set_title(f"{short(mistake.label)}\n→ {short(mistake.predicted)} {mistake.confidence:.0%}", fontsize=8)
    right.suptitle("Mistakes of the highest confidence" if worst else "No mistakes", fontsize=11)
    save(figure, path)


def draw_confusion(axis, found: Int[np.ndarray, "Y Y"], classes: tuple[str, ...]) -> None:
    """Draw the share of each predicted class for each class."""
    errors = found.sum(1) - found.diagonal()
    worst = np.sort(np.argsort(-errors, kind="stable")[:MOST_CLASSES])
    part = found[np.ix_(worst, worst)]
    axis.imshow(part / np.maximum(found[worst].sum(1, keepdims=True), 1), vmin=0, vmax=1, cmap="Blues")
    names = [short(printable(classes[y])) for y in worst]
    axis.set_xticks(range(len(worst)), names, rotation=90, fontsize=7)
    axis.set_yticks(range(len(worst)), names, fontsize=7)
    if len(worst) <= 15:
        for (y, x), count in np.ndenumerate(part):
            axis.text(x, y, count or "", ha="center", va="center", fontsize=7)
    every = "" if len(worst) == len(classes) else f"; the {len(worst)} classes with the most mistakes"
    axis.set(xlabel="predicted class", ylabel="class", title=f"Share of each class (number: images){every}")


def short(name: str) -> str:
    """A name truncated to 16 characters."""
    return name if len(name) <= 16 else f"{name[:15]}…"
