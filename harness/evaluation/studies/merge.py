"""Fewer tokens: patches of several sizes, a smaller image, or dropped tokens.   [APT, arXiv:2510.18091]"""

from functools import partial
from pathlib import Path

import numpy as np

from data.plan import NOTHING
from data.sampling.dropping import Constant
from data.sampling.merge import Law, Merge
from navit_eqx.errors import check

from ...adaptive import may_merge
from ..pictures import accuracy_axis, accuracy_curve, sheet
from ..predictions import Context, measures, on_common_images
from .findings import Findings, curve, difference, largest

RATES = (0.25, 0.5, 0.75)
SIDES = {
    "merge": "flat patches merged",
    "resize": "a smaller image",
    "drop": "tokens dropped at random",
    "whole": "all tokens",
}
COLUMNS = ("mean_tokens", "mean_gflops", "score", "score_se")
HALVINGS = 40  # of the range of resolutions


def merge(context: Context) -> Findings:
    """For fewer tokens, is it better to merge flat patches, to shrink the image, or to drop tokens?"""
    check_mergeable(context)
    rates = sorted(rate for rate in context.merge_rates or RATES if rate)
    check(bool(rates), "merge compares rates above 0: --merge-rates 0.25 0.5 0.75")
    saved = lambda r, rate: (
        mean_tokens(context, context.sampling_at(r, rate)) < mean_tokens(context, context.sampling_at(r, 0.0))
    )
    pairs = [(r, rate) for r in context.resolutions for rate in rates if saved(r, rate)]
    check(bool(pairs), "no image has a block of patches to merge at these resolutions: add a larger one, --resolutions")
    rows = [compare_at(context, r, rate) for r, rate in pairs]
    most, gain = largest(rows)
    trained = "with" if context.config.data.merge else "without"
    return Findings(
        f"merge: flat patches merged, a smaller image, and a random part of the tokens, with as many tokens; the model "
        f"was trained {trained} merging",
        rows,
        f"largest difference: merging instead of resizing changes {context.metric} by {gain} at "
        f"{most['merge_mean_tokens']:.0f} tokens, and instead of dropping by {100 * most['gain_on_drop']:+.1f}",
        "merge.png",
        partial(draw, rows),
    )


def check_mergeable(context: Context) -> None:
    """Raises ConfigError where the model reads clips or has stages, windows would cut blocks, or there is no class."""
    config = context.config
    check(config.model.tubelets is None, "patches of images are merged, and the model reads clips")
    check(config.model.stages is None, "merged patches are unequal, and model.stages merge tokens of equal ones")
    may_merge(config, (config.data.merge or Merge()).scales)
    classes = hasattr(context.task, "truth")
    check(classes, f"merging is judged by classes of images, and {type(config.task).__name__} has none")


def mean_tokens(context: Context, law: Law) -> float:
    """Tokens of an image by a law without chance, in the mean; no image is read."""
    patch = context.patch or context.config.model.spatial_patch
    return float(law.token_counts(law.grids(np.random.default_rng(0), context.source.manifest.sizes, patch)).mean())


def resolution_for(context: Context, tokens: float, most: float) -> float:
    """The resolution up to `most` at which images without merging have about `tokens` tokens in the mean."""
    at = lambda resolution: mean_tokens(context, context.sampling_at(resolution, 0.0))
    low, high = most / 64, most
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) < tokens else (low, middle)
    return min((low, high), key=lambda resolution: abs(at(resolution) - tokens))


def compare_at(context: Context, resolution: float, rate: float) -> dict:
    """One row of the table; the drop rate gives the mean tokens of the merged images."""
    tokens = mean_tokens(context, context.sampling_at(resolution, rate))
    drop_rate = 1 - tokens / mean_tokens(context, context.sampling_at(resolution, 0.0))
    smaller = resolution_for(context, tokens, resolution)
    laws = (
        (context.sampling_at(resolution, rate), NOTHING),
        (context.sampling_at(smaller, 0.0), NOTHING),
        (context.sampling_at(resolution, 0.0), Constant(drop_rate)),
        (context.sampling_at(resolution, 0.0), NOTHING),
    )
    seen = on_common_images([context.predict(*how) for how in laws])
    sides = {name: measures(each) for name, each in zip(SIDES, seen)}
    (gain, error), (over_drop, drop_error) = (difference(seen[0], other) for other in seen[1:3])
    return {
        "resolution": resolution,
        "merge_rate": rate,
        "smaller": smaller,
        "drop_rate": drop_rate,
        **{f"{name}_{column}": sides[name][column] for column in COLUMNS for name in sides},
        "gain": gain,
        "gain_se": error,
        "gain_on_drop": over_drop,
        "gain_on_drop_se": drop_error,
        "images": len(seen[0].image_ids),
    }


def draw(rows: list[dict], path: Path) -> None:
    """Plot accuracy against tokens: a line for each rate of merging, smaller and whole images, dropped tokens."""
    rates = sorted({row["merge_rate"] for row in rows})
    by_tokens = lambda name: sorted(rows, key=lambda row: row[f"{name}_mean_tokens"])
    with sheet(path, 1) as (axis,):
        for rate in rates:
            some = [row for row in rows if row["merge_rate"] == rate]
            notes = [f"{row['resolution']:g}" for row in some]
            accuracy_curve(axis, *curve(some, "merge"), label=f"{SIDES['merge']}, rate {rate:g}", notes=notes)
        for name in ("resize", "drop", "whole"):
            accuracy_curve(axis, *curve(by_tokens(name), name), label=SIDES[name])
        accuracy_axis(axis, sorted({row["merge_mean_tokens"] for row in rows}))
        axis.legend(frameon=False, fontsize=8)
        axis.set_title("Ways to use fewer tokens per image\n(number: resolution)", fontsize=11)
