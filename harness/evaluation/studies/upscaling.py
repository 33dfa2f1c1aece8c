"""Small images enlarged to the resolution, against kept at their own size.   [NaViT, fig. 17c]"""

from functools import partial

from data.sampling.resolution import NeverEnlarged, OneSquare, Sides, Square

from ..predictions import Context
from .findings import Findings, compare, draw_sides, largest

SIDES = {"enlarged": "enlarged to the resolution", "own": "never beyond its own size"}


def upscaling(context: Context) -> Findings:
    """Should small images be enlarged to the budget, or kept at their own size?"""
    rows = [{"resolution": r, **compare_at(context, r)} for r in context.resolutions]
    most, gain = largest(rows)
    return Findings(
        "upscaling: every image at the resolution (enlarged), and none beyond its own size (own size)",
        rows,
        f"largest difference: enlarging changes accuracy by {gain} at resolution {most['resolution']:g}, "
        f"for {most['enlarged_mean_tokens'] - most['own_mean_tokens']:.1f} more tokens an image",
        "upscaling.png",
        partial(draw_sides, rows, SIDES, "Are small images worth enlarging?"),
    )


def compare_at(context: Context, resolution: float) -> dict:
    """A model that was trained without enlarging is asked for both as well."""
    law, square = context.config.data.resolution, lambda law: law
    if isinstance(law, Square | OneSquare):
        law, square = law.law if isinstance(law, Square) else Sides(), Square
    inner = (law.law if isinstance(law, NeverEnlarged) else law).at(resolution)
    return compare(SIDES, context.predict(square(inner)), context.predict(square(NeverEnlarged(inner))))
