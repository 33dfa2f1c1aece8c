"""Does a label of motion show without motion? One frame, frames in random order, and the size of the clip alone."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from data.sources.moving_digits import MovingDigits

from ..pictures import sheet
from ..predictions import Context, labels_of
from .findings import Findings
from .frames import law_at

NEIGHBORS = 15
ERRORS = 2  # standard errors above the bound, from which on a control leaks


def leaks(context: Context) -> Findings:
    """What does the model, and what do neighbors by size, reach without motion?"""
    law, labels = law_at(context, context.config.data.reported_at), labels_of(context.source.manifest)
    chance = float(np.bincount(labels).max() / len(labels))
    source = context.config.data.source
    # On a torus every place is as likely for every direction, and reversed time is the opposite one.
    direction = isinstance(source, MovingDigits) and source.task == "direction"
    scores = {
        "as it is": (context.predict(law).scores, None),
        "a single frame": (context.predict(replace(law, frames=(1,))).scores, chance if direction else None),
        "frames in random order": (context.predict(replace(law, order="shuffled")).scores, 0.5 if direction else None),
        "neighbors by frames, height and width": (neighbors(context.source.manifest.sizes, labels), chance),
    }
    rows = [row(name, values, bound) for name, (values, bound) in scores.items()]
    above = [r["control"] for r in rows if r["bound"] is not None and r["score"] > r["bound"] + ERRORS * r["score_se"]]
    verdict = f"above its bound: {', '.join(above)}" if above else "no control is above its bound"
    return Findings(
        f"leaks: {context.metric} without motion, by controls; the largest class has {chance:.3f}",
        rows,
        f"{verdict} (by more than {ERRORS} standard errors)",
        "leaks.png",
        partial(draw, rows),
    )


def row(name: str, scores: Float[np.ndarray, " N"], bound: float | None) -> dict:
    """One row of the table; no bound where none is known."""
    error = float(scores.std() / np.sqrt(len(scores)))
    return {"control": name, "score": float(scores.mean()), "score_se": error, "bound": bound, "images": len(scores)}


def neighbors(sizes: Int[np.ndarray, "N 3"], labels: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """1 where most of the nearest other clips, by logarithms of size, have the label of a clip, else 0.

    Among equally near ones those that come first in the manifest count, so that the clip itself is never asked.
    """
    places = np.log(sizes.astype(float))
    found = np.zeros(len(labels))
    for i, place in enumerate(places):
        distance = np.abs(places - place).sum(-1)
        distance[i] = np.inf
        near = np.argsort(distance, kind="stable")[: min(NEIGHBORS, len(labels) - 1)]
        found[i] = len(near) > 0 and np.bincount(labels[near]).argmax() == labels[i]
    return found


def draw(rows: list[dict], path: Path) -> None:
    """Draw a bar for each control, and its bound."""
    with sheet(path, 1) as (axis,):
        names = [r["control"] for r in rows]
        axis.barh(names, [r["score"] for r in rows], xerr=[r["score_se"] for r in rows], color="tab:blue", height=0.5)
        for y, r in enumerate(rows):
            if r["bound"] is not None:
                axis.plot([r["bound"]] * 2, [y - 0.4, y + 0.4], color="black", linewidth=2)
        axis.set(xlim=(0, 1), xlabel="accuracy (black: what a clip without motion can tell)")
        axis.invert_yaxis()
        axis.set_title("What is reached without motion", fontsize=11)
