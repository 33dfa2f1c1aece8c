"""A cheap look at every image, a better one where the cheap one is not sure.   [NaViT, app. on cascades]"""

from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

import reference.cascade as reference
from reference.calibration import Link

from ..looks import Context, Look, halves
from ..pictures import COLOURS, sheet
from .calibration import link, sureness
from .findings import Findings

SHARES = np.linspace(0.05, 0.95, 19)  # of images that go on, among which the front is sought


class View(NamedTuple):
    """One resolution on one half of the images."""

    resolution: float
    look: Look
    confidence: np.ndarray


class Setting(NamedTuple):
    """Places of two views, and the confidence below which an image goes on; one view twice is that look alone."""

    cheap: int
    better: int
    threshold: float


def cascade(context: Context) -> Findings:
    """Does a second look at the hard images buy more than one better look at all of them?

    Settings are chosen on one half of the images and measured on the other: the best of many is partly the luckiest.
    """
    choose, test = views(context)
    candidates = settings(choose)
    tried = [outcome(setting, choose) for setting in candidates]
    cost, accuracy = (np.array([each[c] for each in tried]) for c in ("mean_gflops", "accuracy"))
    front = reference.pareto_front(cost, accuracy)
    rows = [row(candidates[k], test, tried[k]) for k in front]
    single = int(np.argmax(accuracy[: len(choose)]))
    equal = next(r for r, k in zip(rows, front) if accuracy[k] >= accuracy[single])
    alone = outcome(candidates[single], test)
    return Findings(
        f"cascade: the Pareto front of {len(candidates)} settings on one half of the images (accuracy chosen), "
        "measured on the other (accuracy)",
        rows,
        f"best look alone: resolution {choose[single].resolution:g}, accuracy {alone['accuracy']:.3f} at "
        f"{alone['mean_gflops']:.3g} GFLOPs; the cheapest setting that is as good where it was chosen has "
        f"{equal['accuracy']:.3f} at {equal['mean_gflops']:.3g} GFLOPs",
        "cascade.png",
        partial(draw, rows, test),
    )


def views(context: Context) -> tuple[list[View], list[View]]:
    """Every resolution, cheapest first: the half of the images to choose on, and the half to measure on."""
    probabilities = link(context.config)
    looks = sorted(zip(context.resolutions, context.looks()), key=lambda pair: pair[1].flops.mean())
    split = [(r, halves(each)) for r, each in looks]
    first, second = ([view(r, pair[side], probabilities) for r, pair in split] for side in (0, 1))
    return first, second


def view(resolution: float, look: Look, probabilities: Link) -> View:
    return View(resolution, look, sureness(look, probabilities).confidence)


def curve(cheap: View, better: View) -> reference.Cascade:
    """Every threshold of one pair; cost in FLOPs."""
    return reference.cascade(
        cheap.confidence, cheap.look.correct, better.look.correct, cheap.look.flops, better.look.flops
    )


def settings(views: list[View]) -> list[Setting]:
    """Each look alone, and each pair at every share in SHARES."""
    alone = [Setting(i, i, -np.inf) for i in range(len(views))]
    pairs = []
    for i, j in combinations(range(len(views)), 2):
        both = curve(views[i], views[j])
        thresholds = np.unique(both.threshold[np.searchsorted(both.share, SHARES)])
        pairs += [Setting(i, j, float(t)) for t in thresholds if t < np.inf]
    return alone + pairs


def outcome(setting: Setting, views: list[View]) -> dict:
    """What a setting comes to on these images; a second look is paid for on top of the first."""
    cheap, better = views[setting.cheap], views[setting.better]
    again = cheap.confidence < setting.threshold
    right = np.where(again, better.look.correct, cheap.look.correct)
    return {
        "share": float(again.mean()),
        "mean_gflops": float((cheap.look.flops + again * better.look.flops).mean()) / 1e9,
        "images_per_second": float(1 / (cheap.look.seconds + again.mean() * better.look.seconds)),
        "accuracy": float(right.mean()),
        "accuracy_se": float(right.std() / np.sqrt(len(right))),
        "images": len(right),
    }


def row(setting: Setting, test: list[View], where_chosen: dict) -> dict:
    """A setting in words, and what it comes to."""
    alone = setting.cheap == setting.better
    return {
        "cheap": test[setting.cheap].resolution,
        "better": None if alone else test[setting.better].resolution,
        "threshold": None if alone else setting.threshold,
        **outcome(setting, test),
        "accuracy_chosen": where_chosen["accuracy"],
    }


def draw(rows: list[dict], test: list[View], path: Path) -> None:
    """Looks alone, pairs at every threshold, and the front."""
    shades = [COLOURS[i % len(COLOURS)] for i in range(len(test))]
    with sheet(path, 1) as (axis,):
        for i, j in combinations(range(len(test)), 2):
            both = curve(test[i], test[j])
            axis.plot(both.cost / 1e9, both.accuracy, color=shades[i], lw=0.8, alpha=0.6)
        alone = [(each.look.flops.mean() / 1e9, each.look.correct.mean()) for each in test]
        for each, point, shade in zip(test, alone, shades):
            axis.plot(*point, "o", ms=8, color=shade)
            axis.annotate(f"{each.resolution:g}", point, xytext=(0, -15), textcoords="offset points", ha="center")
        cost, accuracy = ([row[c] for row in rows] for c in ("mean_gflops", "accuracy"))
        axis.plot(cost, accuracy, "k*:", ms=8, lw=1, label="front, chosen on the other half of the images")
        axis.plot([], [], "o", color="grey", label="one look (number: resolution)")
        axis.plot([], [], color="grey", lw=0.8, label="two looks, every threshold (colour: the first)")
        axis.set(xlabel="GFLOPs per image (mean, forward)", ylabel="accuracy", xscale="log")
        axis.set_xticks([x for x, _ in alone], [f"{x:.2g}" for x, _ in alone])
        axis.minorticks_off()
        axis.margins(y=0.12)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
        axis.set_title("A second, better look where the first is not sure", fontsize=11)
