"""One checkpoint at every resolution and patch size: which of the two should shrink?   [FlexiViT, figs. 2, 3 and 6]"""

from functools import partial
from pathlib import Path

import numpy as np

from navit_eqx.evaluate import features
from reference.calibration import Link
from reference.cascade import pareto_front
from reference.similarity import linear_cka

from ..looks import Context, Look, measures, on_common_images
from ..pictures import COLOURS, sheet
from .calibration import link
from .findings import Findings


def patches(context: Context) -> Findings:
    """With fewer tokens to spend: a smaller image, or coarser patches?"""
    sizes = sizes_of(context)
    places = [(size, r) for size in sizes for r in context.resolutions]
    looks = on_common_images([context.look(context.law(r), patch_size=size) for size, r in places])
    measured = [measures(seen) for seen in looks]
    front = pareto_front(*(np.array([row[c] for row in measured]) for c in ("mean_gflops", "accuracy"))).tolist()
    alike = {size: likeness(context, size) for size in sizes}
    together = ensembles(looks, len(context.resolutions), link(context.config))
    rows = [
        {"patch_size": size, "resolution": r, **row, "on_front": k in front, "cka": alike[size], **several}
        for k, ((size, r), row, several) in enumerate(zip(places, measured, together))
    ]
    best = max(rows, key=lambda row: row["accuracy"])
    return Findings(
        "patches: accuracy and cost at each resolution in patches of each size",
        rows,
        f"best: accuracy {best['accuracy']:.3f} at resolution {best['resolution']:g} in patches of "
        f"{best['patch_size']}; on the front of accuracy and cost lie patches of "
        f"{', '.join(str(size) for size in sizes if any(places[k][0] == size for k in front))}; the mean over "
        f"several sizes is at best {100 * ensemble_gain(rows):+.1f} points from one look at no more cost",
        "patches.png",
        partial(draw, rows),
    )


def sizes_of(context: Context) -> tuple[int, ...]:
    """Those the model was made for; of a model with one size, that and one half as large again."""
    own, flexi = context.config.model.patch_size, context.config.model.flexi
    return tuple(sorted(flexi.sizes)) if flexi and flexi.sizes else (own, own + max(1, own // 2))


def likeness(context: Context, size: int) -> float:
    """Linear CKA of the features at this patch size with those at the model's own, at the largest resolution."""
    law, own = context.law(context.resolutions[-1]), context.config.model.patch_size
    looks = on_common_images([context.look(law, output=features, patch_size=p) for p in (size, own)])
    return linear_cka(*(seen.output.astype(float) for seen in looks))


def ensembles(looks: list[Look], resolutions: int, probabilities: Link) -> list[dict]:
    """For each look: the mean of the probabilities in its patches and in all coarser ones, at its resolution, for the
    sum of their costs.   [FlexiViT: almost never better than one look at that cost]

    Looks run from fine to coarse patches, within a size over the resolutions.
    """
    said = [probabilities(seen.output.astype(float)) for seen in looks]
    found = []
    for k, seen in enumerate(looks):
        together = range(k, len(looks), resolutions)
        right = np.sum([said[i] for i in together], axis=0).argmax(-1) == seen.labels
        cost = sum(looks[i].flops.mean() for i in together) / 1e9
        found.append({"ensemble": float(right.mean()), "ensemble_gflops": float(cost)})
    return found


def ensemble_gain(rows: list[dict]) -> float:
    """The most that an ensemble of two or more sizes gains over the best single look that costs no more."""
    gains = [
        row["ensemble"] - max(one["accuracy"] for one in rows if one["mean_gflops"] <= row["ensemble_gflops"])
        for row in rows
        if row["ensemble_gflops"] > row["mean_gflops"]
    ]
    return max(gains, default=0.0)


def draw(rows: list[dict], path: Path) -> None:
    """Accuracy as a map over both knobs, and against cost with the front."""
    sizes, resolutions = (sorted({row[c] for row in rows}) for c in ("patch_size", "resolution"))
    table = np.array([row["accuracy"] for row in rows]).reshape(len(sizes), len(resolutions))
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
            cost, accuracy = ([row[c] for row in line] for c in ("mean_gflops", "accuracy"))
            right.plot(cost, accuracy, "o-", color=COLOURS[s % len(COLOURS)], label=f"patches of {size}")
        several = [row for row in rows if row["ensemble_gflops"] > row["mean_gflops"]]
        cost, accuracy = ([row[c] for row in several] for c in ("ensemble_gflops", "ensemble"))
        right.plot(cost, accuracy, "x", color="grey", label="mean over a size and all coarser ones")
        best = sorted((row["mean_gflops"], row["accuracy"]) for row in rows if row["on_front"])
        right.plot(*zip(*best), "k*:", ms=9, lw=1, label="front over both")
        right.set(xlabel="GFLOPs per image (mean, forward)", ylabel="accuracy", xscale="log")
        right.set_title("Each line: one patch size at all resolutions", fontsize=11)
        right.grid(alpha=0.3)
        right.legend(frameon=False)
