"""Fewer tokens: smaller images or dropped tokens.   [NaViT, app. C, fig. 17b]"""

from functools import partial

from data.sampling.dropping import Constant
from navit_eqx.errors import check
from navit_eqx.tasks import TASKS

from ..predictions import Context, measures
from .findings import Findings, compare, draw_sides, largest

SIDES = {
    "resize": "a smaller image",
    "drop": "the large image, tokens dropped",
    "whole": "the large image, all tokens",
}
TITLE = "Two ways to use fewer tokens per image"


def dropping(context: Context) -> Findings:
    """For fewer tokens, is it better to shrink the image or to drop tokens of the large one?"""
    check(not TASKS[type(context.config.task)].per_token, "every patch is asked for its classes: none can be dropped")
    top = context.config.data.reported_at
    whole = context.predict(context.sampling_at(top))
    smaller = [
        r for r in context.resolutions if context.predict(context.sampling_at(r)).tokens.mean() < whole.tokens.mean()
    ]
    check(
        bool(smaller),
        f"dropping compares resolutions with fewer tokens than data.val_resolution={top:g}, and --resolutions "
        f"{' '.join(f'{r:g}' for r in context.resolutions)} has none: add a smaller one",
    )
    rows = [compare_at(context, r, top) for r in smaller]
    most, gain = largest(rows)
    return Findings(
        f"dropping: a smaller image (resize), and a random part of the tokens at resolution {top:g} (drop)",
        rows,
        f"largest difference: resizing instead of dropping changes accuracy by {gain} at "
        f"{most['resize_mean_tokens']:.0f} tokens; all tokens give {whole.scores.mean():.3f}",
        "dropping.png",
        partial(draw_sides, rows, SIDES, TITLE, whole={"resolution": top, **measures(whole)}),
    )


def compare_at(context: Context, resolution: float, top: float) -> dict:
    """One row of the table; the drop rate gives the mean tokens of the smaller images."""
    small, whole = context.predict(context.sampling_at(resolution)), context.predict(context.sampling_at(top))
    rate = 1 - float(small.tokens.mean() / whole.tokens.mean())
    dropped = context.predict(context.sampling_at(top), Constant(rate))
    return {"resolution": resolution, "drop_rate": rate, **compare(SIDES, small, dropped)}
