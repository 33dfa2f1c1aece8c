"""Accuracy, cost and time over resolutions.   [NaViT, fig. 1 right; app. on inference trade-offs]"""

from functools import partial
from pathlib import Path

from ..pictures import accuracy_axis, accuracy_curve, sheet
from ..predictions import Context, by_group, groups, measures
from .findings import Findings, curve


def evaluate_at(context: Context, resolution: float) -> dict:
    """Every image once at one resolution."""
    seen = context.predict(context.law(resolution))
    return {
        "resolution": resolution,
        **measures(seen),
        **seen.metrics,
        "left_out": seen.left_out,
        "unreadable": seen.unreadable,
        "groups": by_group(seen, groups(context.config, context.source.manifest)),
    }


def sweep(context: Context) -> Findings:
    """At which resolution should this model be used, and what does it cost?"""
    rows = [evaluate_at(context, r) for r in context.resolutions]
    best = max(rows, key=lambda row: row["score"])
    return Findings(
        f"sweep: {context.metric} on {context.source.manifest.where}, by resolution",
        rows,
        f"best: {context.metric} {best['score']:.3f} at resolution {best['resolution']:g}",
        "accuracy_tokens.png",
        partial(draw, rows),
    )


def draw(rows: list[dict], path: Path) -> None:
    with sheet(path, 1) as (axis,):
        accuracy_curve(axis, *curve(rows), notes=[f"{row['resolution']:g}" for row in rows])
        accuracy_axis(axis, [row["mean_tokens"] for row in rows])
        axis.set_title("One model at several test-time resolutions\n(number at each point: resolution)", fontsize=11)
