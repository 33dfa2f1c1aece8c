"""Aspect ratio kept or squashed, at equal tokens.   [NaViT, §3.5, app. G: native against square]"""

from functools import partial

from data.sampling.merge import Law, of_frames, with_frames
from data.sampling.resolution import OneSquare, Sides, Square

from ..predictions import Context
from .findings import Findings, compare, draw_sides, largest

SIDES = {"kept": "aspect ratio kept", "squashed": "squashed to a square"}
TITLE = "The same model and images, about the same number of tokens"


def aspect(context: Context) -> Findings:
    """How much accuracy does the native aspect ratio give?"""
    rows = [{"resolution": r, **compare_at(context, r)} for r in context.resolutions]
    most, gain = largest(rows)
    return Findings(
        "aspect: images at their native aspect ratio (kept), or squashed to a square with about as many tokens",
        rows,
        f"largest difference: keeping the aspect ratio changes accuracy by {gain} at resolution {most['resolution']:g}",
        "aspect.png",
        partial(draw_sides, rows, SIDES, TITLE),
    )


def compare_at(context: Context, resolution: float) -> dict:
    """One row of the table."""
    return compare(SIDES, *map(context.predict, both_laws(context, resolution)))


def both_laws(context: Context, resolution: float) -> tuple[Law, Law]:
    """Sampling at native aspect ratio, and in squares of about as many tokens, whichever the model was trained on."""
    sampling, clips = of_frames(context.config.data.resolution), partial(with_frames, context.sampling_at(resolution))
    if isinstance(sampling, Square | OneSquare):
        sampling = sampling.sampling if isinstance(sampling, Square) else Sides()
    native = sampling.at(resolution)
    return clips(native), clips(Square(native))
