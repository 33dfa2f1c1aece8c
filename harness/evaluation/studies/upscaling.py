"""Small images: enlarged to the resolution or kept at their native size.   [NaViT, fig. 17c]"""

from functools import partial

from data.sampling.merge import of_frames, with_frames
from data.sampling.resolution import NeverEnlarged, OneSquare, Sides, Square

from ..predictions import Context
from .findings import Findings, compare, draw_sides, largest

SIDES = {"enlarged": "enlarged to the resolution", "own": "never above native size"}


def upscaling(context: Context) -> Findings:
    """Should small images be enlarged to the resolution, or kept at their native size?"""
    rows = [{"resolution": r, **compare_at(context, r)} for r in context.resolutions]
    most, gain = largest(rows)
    return Findings(
        "upscaling: every image at the resolution (enlarged), or never above its native size (own)",
        rows,
        f"largest difference: enlarging changes accuracy by {gain} at resolution {most['resolution']:g}, "
        f"for {most['enlarged_mean_tokens'] - most['own_mean_tokens']:.1f} more tokens per image",
        "upscaling.png",
        partial(draw_sides, rows, SIDES, "Are small images worth enlarging?"),
    )


def compare_at(context: Context, resolution: float) -> dict:
    """One row of the table; both sides are squares where the model was trained on squares."""
    sampling, square = of_frames(context.config.data.resolution), lambda sampling: sampling
    clips = partial(with_frames, context.sampling_at(resolution))
    if isinstance(sampling, Square | OneSquare):
        sampling, square = sampling.sampling if isinstance(sampling, Square) else Sides(), Square
    inner = (sampling.sampling if isinstance(sampling, NeverEnlarged) else sampling).at(resolution)
    return compare(SIDES, context.predict(clips(square(inner))), context.predict(clips(square(NeverEnlarged(inner)))))
