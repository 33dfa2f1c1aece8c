"""Fewer tokens by a smaller image against fewer tokens by dropping.   [NaViT, app. on inference trade-offs]"""

from functools import partial
from pathlib import Path

from data.laws import Constant
from navit_eqx.config_json import check

from ..looks import Context, measures
from ..pictures import accuracy_axis, accuracy_curve, sheet
from .findings import Findings, compare, curve

SIDES = ("resize", "drop")


def dropping(context: Context) -> Findings:
    """With fewer tokens to spend, should the image be smaller, or should tokens of the large one be dropped?"""
    top = context.config.data.val_resolution
    whole = context.look(context.law(top))
    smaller = [r for r in context.resolutions if context.look(context.law(r)).tokens.mean() < whole.tokens.mean()]
    check(
        bool(smaller),
        f"dropping compares resolutions with fewer tokens than data.val_resolution={top:g}, and --resolutions "
        f"{' '.join(f'{r:g}' for r in context.resolutions)} has none: add a smaller one",
    )
    rows = [compare_at(context, r, top) for r in smaller]
    most = max(rows, key=lambda row: abs(row["gain"]))
    return Findings(
        f"dropping: a smaller image (resize), and a random part of the tokens at resolution {top:g} (drop)",
        rows,
        f"largest difference: resizing changes accuracy by {100 * most['gain']:+.1f} points against dropping (standard "
        f"error {100 * most['gain_se']:.1f}) at {most['resize_mean_tokens']:.0f} tokens; all tokens give "
        f"{whole.correct.mean():.3f}",
        "dropping.png",
        partial(draw, rows, measures(whole), top),
    )


def compare_at(context: Context, resolution: float, top: float) -> dict:
    """Every image loses the same share of its tokens, so that the mean number is that of the smaller images."""
    small, whole = context.look(context.law(resolution)), context.look(context.law(top))
    rate = 1 - float(small.tokens.mean() / whole.tokens.mean())
    dropped = context.look(context.law(top), Constant(rate))
    return {"resolution": resolution, "drop_rate": rate, **compare(SIDES, small, dropped)}


def draw(rows: list[dict], whole: dict, top: float, path: Path) -> None:
    with sheet(path, 1) as (axis,):
        accuracy_curve(
            axis, *curve(rows, "resize"), label="a smaller image", notes=[f"{r['resolution']:g}" for r in rows]
        )
        accuracy_curve(axis, *curve(rows, "drop"), label="the large image, tokens dropped")
        accuracy_curve(axis, *curve([whole]), label="the large image, all tokens", notes=[f"{top:g}"])
        accuracy_axis(axis, [*(row["resize_mean_tokens"] for row in rows), whole["mean_tokens"]])
        axis.legend(frameon=False)
        axis.set_title("Two ways to spend fewer tokens on an image\n(number: resolution)", fontsize=11)
