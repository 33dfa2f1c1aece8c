"""Small images enlarged to the resolution, against kept at their own size.   [NaViT, fig. 17c]"""

from functools import partial
from pathlib import Path

from data.laws import NeverEnlarged, OneSquare, Sides, Square

from ..looks import Context
from ..pictures import accuracy_axis, accuracy_curve, sheet
from .findings import Findings, compare, curve

SIDES = ("enlarged", "own")


def upscaling(context: Context) -> Findings:
    """Should small images be enlarged to the budget, or kept at their own size?"""
    rows = [{"resolution": r, **compare_at(context, r)} for r in context.resolutions]
    most = max(rows, key=lambda row: abs(row["gain"]))
    return Findings(
        "upscaling: every image at the resolution (enlarged), and none beyond its own size (own size)",
        rows,
        f"largest difference: enlarging changes accuracy by {100 * most['gain']:+.1f} points "
        f"(standard error {100 * most['gain_se']:.1f}) at resolution {most['resolution']:g}, "
        f"for {most['enlarged_mean_tokens'] - most['own_mean_tokens']:.1f} more tokens an image",
        "upscaling.png",
        partial(draw, rows),
    )


def compare_at(context: Context, resolution: float) -> dict:
    """A model that was trained without enlarging is asked for both as well."""
    law, square = context.config.data.resolution, lambda law: law
    if isinstance(law, Square | OneSquare):
        law, square = law.law if isinstance(law, Square) else Sides(), Square
    inner = (law.law if isinstance(law, NeverEnlarged) else law).at(resolution)
    return compare(SIDES, context.look(square(inner)), context.look(square(NeverEnlarged(inner))))


def draw(rows: list[dict], path: Path) -> None:
    with sheet(path, 1) as (axis,):
        notes = [f"{r['resolution']:g}" for r in rows]
        accuracy_curve(axis, *curve(rows, "enlarged"), label="enlarged to the resolution", notes=notes)
        accuracy_curve(axis, *curve(rows, "own"), label="never beyond its own size")
        accuracy_axis(axis, [row["enlarged_mean_tokens"] for row in rows])
        axis.legend(frameon=False)
        axis.set_title("Are small images worth enlarging?\n(number: resolution)", fontsize=11)
