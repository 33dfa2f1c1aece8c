"""Learning curve of a run: loss and score against steps, from its logs."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..run.progress import VALIDATION, is_sound
from .pictures import sheet


def read_log(path: Path) -> list[dict[str, Any]]:
    """The sound lines of a log; none where there is no file."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if is_sound(line)]


def series(rows: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one measure; values that were not finite are gaps."""
    known = [row for row in rows if name in row]
    return [row["step"] for row in known], [np.nan if row[name] is None else row[name] for row in known]


def draw_learning_curve(folder: Path, metric: str) -> None:
    """Draw `learning_curve.png` of a run folder: training loss, and the score in training and validation."""
    training, validation = read_log(folder / "metrics.jsonl"), read_log(folder / VALIDATION)
    if not training:
        return
    with sheet(folder / "learning_curve.png", 2) as (left, right):
        left.plot(*series(training, "loss"), marker=".")
        left.set(xlabel="step", ylabel="training loss", title="Loss on training images, as they are augmented")
        for rows, label in ((training, "training images, augmented"), (validation, "validation")):
            steps, values = series(rows, metric)
            if steps:
                right.plot(steps, values, marker=".", label=label)
        right.set(xlabel="step", ylabel=metric.replace("_", " "), title="Score")
        if right.lines:
            right.legend(frameon=False)
        for axis in (left, right):
            axis.grid(alpha=0.3)
