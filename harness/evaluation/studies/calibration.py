"""Confidence against accuracy at each resolution.   [NaViT, app. E, table 4]"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from navit_eqx.errors import check
from navit_eqx.tasks.config import Task
from reference.evaluation.calibration import (
    BINS,
    Link,
    expected_calibration_error,
    fit_temperature,
    reliability,
    sample_calibrated_error,
    sigmoid,
    softmax,
)

from ..pictures import accuracy_axis, sheet
from ..predictions import Context, Predictions, halves
from .findings import Findings


class Confidences(NamedTuple):
    """Confidence of the prediction for each image, and whether it is correct."""

    confidence: Float[np.ndarray, " N"]
    correct: Bool[np.ndarray, " N"]


LINKS: dict[str, Link] = {"softmax": softmax, "sigmoid": sigmoid}


def link(context: Context) -> Link:
    """The function from logits to probabilities of the task.   Raises ConfigError where an image has none."""
    name = type(context.config.task).__name__
    check(hasattr(context.task, "truth"), f"this needs class probabilities of an image, and the task {name} has none")
    return link_of(context.config.task)


def link_of(task: Task) -> Link:
    """The function from logits to probabilities of a task.   Raises ConfigError where it has none."""
    name = getattr(task, "link", "")
    check(name in LINKS, f"this needs class probabilities, and {task} has none")
    return LINKS[name]


def confidences(predictions: Predictions, probabilities: Link, temperature: float = 1.0) -> Confidences:
    """Confidence of the top class; a temperature changes the confidence, not the class."""
    return Confidences(probabilities(predictions.outputs.astype(float) / temperature).max(-1), predictions.correct)


def calibration(context: Context) -> Findings:
    """How far is confidence from accuracy, and does it depend on the number of tokens?"""
    probabilities = link(context)
    found = [calibrate(context, *halves(each), probabilities) for each in context.predictions()]
    rows = [{"resolution": r, **row} for r, (row, _) in zip(context.resolutions, found)]
    errors = [row["ece"] for row in rows]
    return Findings(
        f"calibration: expected calibration error (ECE, {BINS} bins) on one half of the images; the temperature was "
        "fitted on the other",
        rows,
        f"ECE {min(errors):.3f} to {max(errors):.3f} over the resolutions, after a temperature "
        f"{min(row['ece_scaled'] for row in rows):.3f} to {max(row['ece_scaled'] for row in rows):.3f}; "
        f"a perfectly calibrated model would show about {np.mean([row['ece_perfect'] for row in rows]):.3f} by chance",
        "calibration.png",
        partial(draw, rows, [pair for _, pair in found]),
    )


def calibrate(
    context: Context, fit: Predictions, test: Predictions, probabilities: Link
) -> tuple[dict, tuple[Confidences, Confidences]]:
    """The columns of one resolution, and confidences before and after temperature scaling."""
    temperature = fit_temperature(fit.outputs, context.truth(fit), probabilities)
    before, after = confidences(test, probabilities), confidences(test, probabilities, temperature)
    columns = {
        "mean_tokens": float(test.tokens.mean()),
        "score": float(before.correct.mean()),
        "confidence": float(before.confidence.mean()),
        "ece": expected_calibration_error(*before),
        "temperature": temperature,
        "ece_scaled": expected_calibration_error(*after),
        "ece_perfect": sample_calibrated_error(np.random.default_rng(0), after.confidence),
        "images": len(test.scores),
    }
    return columns, (before, after)


def draw(rows: list[dict], pairs: list[tuple[Confidences, Confidences]], path: Path) -> None:
    """Plot ECE against tokens, and the reliability diagram of the resolution with the largest ECE."""
    worst = int(np.argmax([row["ece"] for row in rows]))
    with sheet(path, 2) as (left, right):
        tokens = [row["mean_tokens"] for row in rows]
        left.plot(tokens, [row["ece"] for row in rows], "o-", label="as trained")
        left.plot(tokens, [row["ece_scaled"] for row in rows], "s-", label="after a temperature")
        left.plot(tokens, [row["ece_perfect"] for row in rows], ":", color="gray", label="perfect model, by chance")
        accuracy_axis(left, tokens)
        left.set(ylabel="expected calibration error", title="How far confidence is from accuracy")
        left.legend(frameon=False)
        right.plot([0, 1], [0, 1], "--", color="gray", label="perfect")
        for each, label, marker in zip(pairs[worst], ("as trained", "after a temperature"), "os"):
            count, confidence, accuracy = reliability(*each)
            used = count > 0
            size = 12 + 240 * count[used] / count.sum()
            right.scatter(confidence[used], accuracy[used], s=size, marker=marker, alpha=0.7, label=label)
        right.set(xlabel="confidence (mean of a bin)", ylabel="accuracy (of the same images)")
        right.set_title(
            f"Resolution {rows[worst]['resolution']:g}, where the error is largest\n"
            "(below the line: overconfident; area: images in the bin)",
            fontsize=11,
        )
        right.grid(alpha=0.3)
        right.legend(frameon=False, loc="upper left")
