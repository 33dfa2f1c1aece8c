"""Accuracy, cost and time over resolutions.   [NaViT, fig. 1 right; app. C]"""

from functools import partial
from pathlib import Path

import numpy as np

from data.errors import DataError

from ..pictures import accuracy_axis, accuracy_curve, sheet
from ..predictions import MEASURES, Context, Predictions, by_group, groups, measures
from .findings import Findings, curve


def evaluate_at(context: Context, resolution: float) -> dict:
    """Every image once at one resolution. Where none can be read, the row says so and has no score."""
    manifest = context.source.manifest
    try:
        seen = context.predict(context.sampling_at(resolution))
    except DataError:
        seen = nothing(len(manifest))
    found = measures(seen) if len(seen.image_ids) else dict.fromkeys(MEASURES) | {"images": 0}
    return {
        "resolution": resolution,
        **found,
        **seen.metrics,
        "left_out": seen.left_out,
        "unreadable": seen.unreadable,
        "groups": by_group(seen, groups(context.config, manifest)),
    }


def nothing(count: int) -> Predictions:
    """Predictions where all of `count` images are too large for positions or rows."""
    empty = np.zeros(0)
    return Predictions(empty.astype(int), empty, empty, empty.astype(int), empty, np.inf, count, 0, {})


def sweep(context: Context) -> Findings:
    """At which resolution should this model be used, and what does it cost?   Raises DataError where none works."""
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
        partial(draw, known),
    )


def with_all_columns(rows: list[dict]) -> list[dict]:
    """Rows with the columns of all of them, in the order of the longest; None where one has none."""
    columns = max(rows, key=len)
    return [{name: row.get(name) for name in columns} for row in rows]


def in_words(row: dict, total: int) -> str:
    """How many of the images a row is about."""
    lost = [
        f"{row[name]} {words}" for name, words in (("left_out", "left out"), ("unreadable", "unreadable")) if row[name]
    ]
    return f"{row['images']} of {total} images{''.join(f', {part}' for part in lost)}"


def check_share(row: dict, total: int, share: float) -> None:
    """Raises DataError where a mean is over too few of the images."""
    lost = row["left_out"] + row["unreadable"]
    if lost > share * total:
        raise DataError(
            f"resolution {row['resolution']:g}: {in_words(row, total)}, more than the share "
            f"data.max_unreadable={share:g}: choose a smaller resolution, mend the images, or raise the share"
        )


def draw(rows: list[dict], path: Path) -> None:
    with sheet(path, 1) as (axis,):
        accuracy_curve(axis, *curve(rows), notes=[f"{row['resolution']:g}" for row in rows])
        accuracy_axis(axis, [row["mean_tokens"] for row in rows])
        axis.set_title("One model at several test-time resolutions\n(number at each point: resolution)", fontsize=11)
