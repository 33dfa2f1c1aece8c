"""Accuracy, cost and time over resolutions.   [NaViT, fig. 1 right; app. C]"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.manifest import Manifest

from ..pictures import accuracy_axis, accuracy_curve, sheet
from ..predictions import MEASURES, Context, Predictions, by_group, groups, measures
from .findings import Findings, curve


def evaluate_at(context: Context, resolution: float) -> dict:
    """The row of one resolution; scores are None where no image is readable."""
    manifest = context.source.manifest
    try:
        predictions = context.predict(context.sampling_at(resolution))
    except DataError:
        predictions = no_predictions(len(manifest))
    columns = measures(predictions) if len(predictions.image_ids) else dict.fromkeys(MEASURES) | {"images": 0}
    return {
        "resolution": resolution,
        **columns,
        **predictions.metrics,
        "left_out": predictions.left_out,
        "unreadable": predictions.unreadable,
        "groups": by_group(predictions, groups(context.config, manifest)),
    }


def no_predictions(count: int) -> Predictions:
    """Empty predictions, with all of `count` images left out."""
    empty = np.zeros(0)
    return Predictions(empty.astype(int), empty, empty, empty.astype(int), empty, np.inf, count, 0, {})


def sweep(context: Context) -> Findings:
    """Which resolution is best for this model, and what does it cost?   Raises DataError where no image is readable."""
    rows = with_all_columns([evaluate_at(context, r) for r in context.resolutions])
    known = [row for row in rows if row["score"] is not None]
    if not known:
        raise DataError("no image can be read at any of the resolutions: choose smaller --resolutions")
    best = max(known, key=lambda row: row["score"])
    return Findings(
        f"sweep: {context.metric} on {context.source.manifest.where}, by resolution",
        rows,
        f"best: {context.metric} {best['score']:.3f} at resolution {best['resolution']:g}",
        "accuracy_tokens.png",
        partial(draw, known, context.config.data.resolution.spread),
    )


def with_all_columns(rows: list[dict]) -> list[dict]:
    """Rows with equal columns; missing values are None."""
    columns = max(rows, key=len)
    return [{name: row.get(name) for name in columns} for row in rows]


def in_words(row: dict, manifest: Manifest) -> str:
    """Number of images of a row, and of those that it lacks, in words."""
    lost = [f"{count} {words}" for words, count in missing(row, manifest).items() if count]
    return f"{row['images']} of {given(manifest)} images{''.join(f', {part}' for part in lost)}"


def given(manifest: Manifest) -> int:
    """Number of images that were given, those that were set aside by their header included."""
    return len(manifest) + len(manifest.set_aside)


def missing(row: dict, manifest: Manifest) -> dict[str, int]:
    """Numbers of images that were given and are not in a row, by reason."""
    return {"left out": row["left_out"], "unreadable": row["unreadable"], "set aside": len(manifest.set_aside)}


def check_share(row: dict, manifest: Manifest, share: float) -> None:
    """Raises DataError where too many images are left out, unreadable or set aside."""
    if sum(missing(row, manifest).values()) > share * given(manifest):
        raise DataError(
            f"resolution {row['resolution']:g}: {in_words(row, manifest)}, more than the share "
            f"data.max_unreadable={share:g}: choose a smaller resolution, fix the images, or raise the share"
        )


def draw(rows: list[dict], trained: tuple[float, float], path: Path) -> None:
    """Draw the score against the mean number of tokens; resolutions of training are shaded."""
    with sheet(path, 1) as (axis,):
        accuracy_curve(axis, *curve(rows), notes=[f"{row['resolution']:g}" for row in rows])
        accuracy_axis(axis, [row["mean_tokens"] for row in rows])
        least, most = tokens_at(rows, trained)
        axis.axvspan(least, most, color="tab:green", alpha=0.1, lw=0)
        axis.set_title(
            "One model at several test-time resolutions\n(number at each point: resolution; shaded: those of training)",
            fontsize=11,
        )


def tokens_at(rows: list[dict], resolutions: Sequence[float]) -> list[float]:
    """Mean tokens at these resolutions, between rows log-linear, beyond them those of the last row."""
    known = sorted((row["resolution"], row["mean_tokens"]) for row in rows)
    return [float(n) for n in np.exp(np.interp(np.log(resolutions), *np.log(known).T))]
