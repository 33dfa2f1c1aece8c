"""One model at every resolution and patch size: smaller images or coarser patches?   [FlexiViT, figs. 2, 3 and 6]"""

from functools import partial
from pathlib import Path

import numpy as np

from data.sampling.kinds import Patch, square
from navit_eqx.inference import pooled
from reference.evaluation.cascade import pareto_front
from reference.evaluation.similarity import linear_cka

from ..pictures import COLORS, sheet
from ..predictions import Context, Predictions, measures, on_common_images
from .calibration import link
from .findings import Findings


def patches(context: Context) -> Findings:
    """For fewer tokens, is it better to use smaller images or coarser patches?"""
    sizes = sizes_of(context)
    places = [(size, r) for size in sizes for r in context.resolutions]
    predictions = on_common_images([context.predict(context.sampling_at(r), patch=size) for size, r in places])
    measured = [measures(each) for each in predictions]
    front = pareto_front(*(np.array([row[c] for row in measured]) for c in ("mean_gflops", "score"))).tolist()
    similar = {size: feature_cka(context, size) for size in sizes}
    together = ensembles(context, predictions, len(context.resolutions))
    rows = [
        {
            "patch_size": patch_text(size),
            "resolution": r,
            **row,
            "on_front": k in front,
            "cka": similar[size],
            **several,
        }
        for k, ((size, r), row, several) in enumerate(zip(places, measured, together))
    ]
    best = max(rows, key=lambda row: row["score"])
    several = ""
    if together[0]:
        gain = 100 * ensemble_gain(rows)
        several = f"; the mean over several sizes is at best {gain:+.1f} points from one setting at no higher cost"
    return Findings(
        f"patches: {context.metric} and cost at each resolution in patches of each size",
        rows,
        f"best: {context.metric} {best['score']:.3f} at resolution {best['resolution']:g} in patches of "
        f"{best['patch_size']}; on the front of {context.metric} and cost lie patches of "
        f"{', '.join(str(patch_text(size)) for size in sizes if any(places[k][0] == size for k in front))}"
        f"{several}",
        "patches.png",
        partial(draw, rows),
    )


def sizes_of(context: Context) -> tuple[Patch, ...]:
    """The patch sizes of the model; for a model with one size, that size and 1.5 times that size."""
    own, flexi = context.config.model.patch, context.config.model.flexi
    if flexi and flexi.sizes:
        return tuple(square(side) for side in sorted(flexi.sizes))
    return own, square(own[0] + max(1, own[0] // 2))


def patch_text(patch: Patch) -> int | str:
    """A patch size in tables: one side, or both."""
    return patch[0] if patch[0] == patch[1] else " x ".join(map(str, patch))


def feature_cka(context: Context, size: Patch) -> float:
    """Linear CKA of the features at this patch size and at that of the model, at the largest resolution."""
    sampling, own = context.sampling_at(context.resolutions[-1]), context.config.model.patch
    predictions = on_common_images([context.predict(sampling, output=pooled, patch=p) for p in (size, own)])
    return linear_cka(*(each.outputs.astype(float) for each in predictions))


def ensembles(context: Context, predictions: list[Predictions], resolutions: int) -> list[dict]:
    """Ensembles over patch sizes: for each setting, the mean probabilities of its patch size and all coarser ones, at
    its resolution, for the sum of their costs; no columns where an output is not the logits of an image, as in
    detection. [FlexiViT: almost never better than one setting at that cost]

    Settings are ordered from fine to coarse patches, and by resolution within a patch size.
    """
    if not hasattr(context.task, "truth"):
        return [{} for _ in predictions]
    probabilities = link(context)
    each = [probabilities(one.outputs.astype(float)) for one in predictions]
    found = []
    for k, first in enumerate(predictions):
        together = range(k, len(predictions), resolutions)
        means = np.mean([each[i] for i in together], axis=0)
        right = context.task.scores(means, first.image_ids, context.source.manifest)
        cost = sum(predictions[i].flops.mean() for i in together) / 1e9
        found.append({"ensemble": float(right.mean()), "ensemble_gflops": float(cost)})
    return found


def ensemble_gain(rows: list[dict]) -> float:
    """Largest gain of an ensemble of two or more sizes over the best single setting at no higher cost."""
    gains = [
        row["ensemble"] - max(one["score"] for one in rows if one["mean_gflops"] <= row["ensemble_gflops"])
        for row in rows
        if row["ensemble_gflops"] > row["mean_gflops"]
    ]
    return max(gains, default=0.0)


def draw(rows: list[dict], path: Path) -> None:
    """Plot accuracy as a table of resolution and patch size, and against cost with the Pareto front."""
    sizes, resolutions = (sorted({row[c] for row in rows}) for c in ("patch_size", "resolution"))
    table = np.array([row["score"] for row in rows]).reshape(len(sizes), len(resolutions))
    with sheet(path, 2) as (left, right):
        left.imshow(table, aspect="auto", cmap="viridis")
        for (s, r), value in np.ndenumerate(table):
            dark = value < (table.min() + table.max()) / 2
            left.text(r, s, f"{value:.3f}", ha="center", va="center", color="white" if dark else "black", fontsize=9)
        left.set_xticks(range(len(resolutions)), [f"{r:g}" for r in resolutions])
        left.set_yticks(range(len(sizes)), sizes)
        left.set(xlabel="resolution", ylabel="patch size (pixels)", title="Accuracy of one checkpoint")
        for s, size in enumerate(sizes):
            line = [row for row in rows if row["patch_size"] == size]
            cost, accuracy = ([row[c] for row in line] for c in ("mean_gflops", "score"))
            right.plot(cost, accuracy, "o-", color=COLORS[s % len(COLORS)], label=f"patches of {size}")
        several = [row for row in rows if row.get("ensemble_gflops", 0.0) > row["mean_gflops"]]
        if several:
            cost, accuracy = ([row[c] for row in several] for c in ("ensemble_gflops", "ensemble"))
            right.plot(cost, accuracy, "x", color="gray", label="mean over a size and all coarser ones")
        best = sorted((row["mean_gflops"], row["score"]) for row in rows if row["on_front"])
        right.plot(*zip(*best), "k*:", ms=9, lw=1, label="front over both")
        right.set(xlabel="GFLOPs per image (mean, forward)", ylabel="score", xscale="log")
        right.set_title("Each line: one patch size at all resolutions", fontsize=11)
        right.grid(alpha=0.3)
        right.legend(frameon=False)
