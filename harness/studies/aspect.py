"""Aspect ratio kept against squashed, at as many tokens.   [NaViT, §3.5 and app. on fairness: native against square]"""

from functools import partial
from pathlib import Path

from data.laws import OneSquare, Sides, Square

from ..looks import Context
from ..pictures import accuracy_axis, accuracy_curve, sheet
from .findings import Findings, compare, curve

SIDES = ("kept", "squashed")


def aspect(context: Context) -> Findings:
    """What is it worth that an image keeps its aspect ratio?"""
    rows = [{"resolution": r, **compare_at(context, r)} for r in context.resolutions]
    most = max(rows, key=lambda row: abs(row["gain"]))
    return Findings(
        "aspect: images at their own aspect ratio (kept), and squashed to a square of about as many tokens",
        rows,
        f"largest difference: keeping the aspect ratio changes accuracy by {100 * most['gain']:+.1f} points "
        f"(standard error {100 * most['gain_se']:.1f}) at resolution {most['resolution']:g}",
        "aspect.png",
        partial(draw, rows),
    )


def compare_at(context: Context, resolution: float) -> dict:
    """A model trained on squares is asked for both as well."""
    law = context.config.data.resolution
    aspect_kept = Sides() if isinstance(law, OneSquare) else law.law if isinstance(law, Square) else law
    native = aspect_kept.at(resolution)
    return compare(SIDES, context.look(native), context.look(Square(native)))


def draw(rows: list[dict], path: Path) -> None:
    with sheet(path, 1) as (axis,):
        accuracy_curve(
            axis, *curve(rows, "kept"), label="aspect ratio kept", notes=[f"{r['resolution']:g}" for r in rows]
        )
        accuracy_curve(axis, *curve(rows, "squashed"), label="squashed to a square")
        accuracy_axis(axis, [row["kept_mean_tokens"] for row in rows])
        axis.legend(frameon=False)
        axis.set_title("The same model and images, about the same number of tokens\n(number: resolution)", fontsize=11)
