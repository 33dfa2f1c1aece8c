"""Aspect ratio kept against squashed, at as many tokens.   [NaViT, §3.5 and app. on fairness: native against square]"""

from functools import partial

from data.sampling.resolution import OneSquare, Sides, Square

from ..predictions import Context
from .findings import Findings, compare, draw_sides, largest

SIDES = {"kept": "aspect ratio kept", "squashed": "squashed to a square"}
TITLE = "The same model and images, about the same number of tokens"


def aspect(context: Context) -> Findings:
    """What is it worth that an image keeps its aspect ratio?"""
    rows = [{"resolution": r, **compare_at(context, r)} for r in context.resolutions]
    most, gain = largest(rows)
    return Findings(
        "aspect: images at their own aspect ratio (kept), and squashed to a square of about as many tokens",
        rows,
        f"largest difference: keeping the aspect ratio changes accuracy by {gain} at resolution {most['resolution']:g}",
        "aspect.png",
        partial(draw_sides, rows, SIDES, TITLE),
    )


def compare_at(context: Context, resolution: float) -> dict:
    """A model trained on squares is asked for both as well."""
    law = context.config.data.resolution
    aspect_kept = Sides() if isinstance(law, OneSquare) else law.law if isinstance(law, Square) else law
    native = aspect_kept.at(resolution)
    return compare(SIDES, context.predict(native), context.predict(Square(native)))
