"""Accuracy and cost of clips over the number of frames and their resolution."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.sampling.resolution import Clips
from navit_eqx.errors import ConfigError

from ..pictures import accuracy_axis, accuracy_curve, sheet
from ..predictions import Context, measures
from .findings import Findings, curve


def law_at(context: Context, resolution: float) -> Clips:
    """The sampling of clips at a resolution.   Raises ConfigError where the model reads images."""
    law = context.sampling_at(resolution)
    if not isinstance(law, Clips):
        raise ConfigError("this study is of clips, and the model reads images")
    return law


def frames(context: Context) -> Findings:
    """How many frames, and at which resolution?"""
    known = law_at(context, context.resolutions[0])
    step, most = known.base[0], max(known.frames)
    counts = sorted({1, *(n for n in (step, 2 * step, most // 2, most) if n <= most)})
    rows = [row_at(context, r, count) for count in counts for r in context.resolutions]
    best = max(rows, key=lambda row: row["score"])
    return Findings(
        f"frames: {context.metric} by number of frames and resolution",
        rows,
        f"best: {context.metric} {best['score']:.3f} with {best['frames']} frames at resolution "
        f"{best['resolution']:g}, {best['mean_gflops']:.3g} GFLOPs a clip; views=1: each clip is read once",
        "frames.png",
        partial(draw, rows),
    )


def row_at(context: Context, resolution: float, count: int) -> dict:
    """One row of the table: clips of at most `count` frames."""
    predictions = context.predict(replace(law_at(context, resolution), frames=(count,)))
    return {"frames": count, "resolution": resolution, **measures(predictions)}


def draw(rows: Sequence[dict], path: Path) -> None:
    """Draw a curve over resolutions for each number of frames."""
    with sheet(path, 1) as (axis,):
        for count in dict.fromkeys(row["frames"] for row in rows):
            some = [row for row in rows if row["frames"] == count]
            notes = [f"{row['resolution']:g}" for row in some]
            accuracy_curve(axis, *curve(some), label=f"{count} frame{'s' if count > 1 else ''}", notes=notes)
        accuracy_axis(axis, sorted({round(row["mean_tokens"]) for row in rows})[:: max(1, len(rows) // 8)])
        axis.legend(frameon=False)
        axis.set_title("Clips of a number of frames at several resolutions\n(number: resolution)", fontsize=11)
