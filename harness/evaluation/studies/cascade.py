"""A cheap prediction for every image, a second one where the first has low confidence.   [NaViT, app. D]"""

from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from reference.evaluation import cascade as reference
from reference.evaluation.calibration import Link

from ..budget import Reading
from ..pictures import COLORS, sheet
from ..predictions import Context, Predictions, halves
from .calibration import confidences, link
from .findings import Findings

SHARES = np.linspace(0.05, 0.95, 19)  # shares of images with a second prediction


class Candidate(NamedTuple):
    """Predictions by one reading of one half of the images."""

    reading: Reading
    predictions: Predictions
    confidence: Float[np.ndarray, " N"]
    cost: Float[np.ndarray, " N"]
    """Of each image: FLOPs, or seconds."""


class Setting(NamedTuple):
    """Indices of two candidates, and the confidence below which the second is used; equal indices: one candidate
    alone."""

    cheap: int
    better: int
    threshold: float


def cascade(context: Context) -> Findings:
    """Is a second prediction for hard images better than one better prediction for all images?

    Settings are chosen on one half of the images and measured on the other, against selection bias.
    """
    choose, test = candidates_of(context)
    candidates = settings(choose)
    tried = [outcome(setting, choose) for setting in candidates]
    cost, accuracy = (np.array([each[c] for each in tried]) for c in ("mean_gflops", "score"))
    front = reference.pareto_front(cost, accuracy)
    rows = [row(candidates[k], test, tried[k]) for k in front]
    single = int(np.argmax(accuracy[: len(choose)]))
    equal = next(r for r, k in zip(rows, front) if accuracy[k] >= accuracy[single])
    alone = outcome(candidates[single], test)
    return Findings(
        f"cascade: the Pareto front of {len(candidates)} settings on one half of the images (accuracy chosen), "
        "measured on the other (accuracy)",
        rows,
        f"best alone: resolution {choose[single].reading.resolution:g}, {context.metric} {alone['score']:.3f} at "
        f"{alone['mean_gflops']:.3g} GFLOPs; the cheapest setting that is as good where it was chosen has "
        f"{equal['score']:.3f} at {equal['mean_gflops']:.3g} GFLOPs",
        "cascade.png",
        partial(draw, rows, test),
    )


def candidates_of(context: Context) -> tuple[list[Candidate], list[Candidate]]:
    """Candidates at every resolution, cheapest first, on the half for selection and on the half for measurement."""
    probabilities = link(context)
    found = sorted(zip(context.resolutions, context.predictions()), key=lambda pair: pair[1].flops.mean())
    split = [(r, halves(each)) for r, each in found]
    first, second = ([candidate(r, pair[side], probabilities) for r, pair in split] for side in (0, 1))
    return first, second


def candidate(resolution: float, predictions: Predictions, probabilities: Link) -> Candidate:
    """Predictions at a resolution, with the confidence of each."""
    confidence = confidences(predictions, probabilities).confidence
    return Candidate(Reading(resolution), predictions, confidence, predictions.flops)


def curve(cheap: Candidate, better: Candidate) -> reference.Cascade:
    """The cascade of two candidates at every threshold."""
    return reference.cascade(
        cheap.confidence,
        cheap.predictions.correct,
        better.predictions.correct,
        cheap.cost,
        better.cost,
    )


def one_each(candidates: list[Candidate]) -> list[Setting]:
    """Each candidate alone."""
    return [Setting(i, i, -np.inf) for i in range(len(candidates))]


def settings(candidates: list[Candidate]) -> list[Setting]:
    """Each candidate alone, and each pair at every share in SHARES; thresholds lie between two confidences, so that
    rounding decides about no image."""
    alone = one_each(candidates)
    pairs = []
    for i, j in combinations(range(len(candidates)), 2):
        both = curve(candidates[i], candidates[j])
        above = np.searchsorted(both.share, SHARES)
        thresholds = np.unique((both.threshold[above - 1] + both.threshold[above]) / 2)
        pairs += [Setting(i, j, float(t)) for t in thresholds if t < np.inf]
    return alone + pairs


def outcome(setting: Setting, candidates: list[Candidate]) -> dict:
    """Cost and accuracy of a setting; the cost of a second prediction is added to that of the first."""
    cheap, better = candidates[setting.cheap], candidates[setting.better]
    again = cheap.confidence < setting.threshold
    right = np.where(again, better.predictions.correct, cheap.predictions.correct)
    return {
        "share": float(again.mean()),
        "mean_gflops": float((cheap.predictions.flops + again * better.predictions.flops).mean()) / 1e9,
        "images_per_second": float(1 / (cheap.predictions.seconds + again.mean() * better.predictions.seconds)),
        "score": float(right.mean()),
        "score_se": float(right.std() / np.sqrt(len(right))),
        "images": len(right),
    }


def row(setting: Setting, test: list[Candidate], where_chosen: dict) -> dict:
    """One row of the table: a setting, its cost and its accuracy."""
    alone = setting.cheap == setting.better
    return {
        "cheap": test[setting.cheap].reading.resolution,
        "better": None if alone else test[setting.better].reading.resolution,
        "threshold": None if alone else setting.threshold,
        **outcome(setting, test),
        "score_chosen": where_chosen["score"],
    }


def draw(rows: list[dict], test: list[Candidate], path: Path) -> None:
    """Plot candidates alone, pairs at every threshold, and the Pareto front."""
    shades = [COLORS[i % len(COLORS)] for i in range(len(test))]
    with sheet(path, 1) as (axis,):
        for i, j in combinations(range(len(test)), 2):
            both = curve(test[i], test[j])
            axis.plot(both.cost / 1e9, both.accuracy, color=shades[i], lw=0.8, alpha=0.6)
        alone = [(each.predictions.flops.mean() / 1e9, each.predictions.correct.mean()) for each in test]
        for each, point, shade in zip(test, alone, shades):
            axis.plot(*point, "o", ms=8, color=shade)
            axis.annotate(
                f"{each.reading.resolution:g}", point, xytext=(0, -15), textcoords="offset points", ha="center"
            )
        cost, accuracy = ([row[c] for row in rows] for c in ("mean_gflops", "score"))
        axis.plot(cost, accuracy, "k*:", ms=8, lw=1, label="front, chosen on the other half of the images")
        axis.plot([], [], "o", color="gray", label="one resolution (number)")
        axis.plot([], [], color="gray", lw=0.8, label="two resolutions, every threshold (color: the first)")
        axis.set(xlabel="GFLOPs per image (mean, forward)", ylabel="score", xscale="log")
        axis.set_xticks([x for x, _ in alone], [f"{x:.2g}" for x, _ in alone])
        axis.minorticks_off()
        axis.margins(y=0.12)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
        axis.set_title("A second, better prediction where the first has low confidence", fontsize=11)
