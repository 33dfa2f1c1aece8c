"""One checkpoint at every resolution and patch size: which of the two should shrink?   [FlexiViT, figs. 2, 3 and 6]"""

from functools import partial
from pathlib import Path

import numpy as np

from navit_eqx.evaluate import features
from reference.cascade import pareto_front
from reference.similarity import linear_cka

from ..looks import Context, Look, measures, on_common_images
from ..pictures import COLOURS, sheet
from .findings import Findings


def patches(context: Context) -> Findings:
    """With fewer tokens to spend: a smaller image, or coarser patches?"""
    sizes = sizes_of(context)
    places = [(size, r) for size in sizes for r in context.resolutions]
    looks = on_common_images([context.look(context.law(r), patch_size=size) for size, r in places])
    measured = [measures(seen) for seen in looks]
    front = pareto_front(*(np.array([row[c] for row in measured]) for c in ("mean_gflops", "accuracy"))).tolist()
    alike = {size: likeness(context, size) for size in sizes}
    rows = [
        {"patch_size": size, "resolution": r, **row, "on_front": k in front, "cka": alike[size]}
        for k, ((size, r), row) in enumerate(zip(places, measured))
    ]
    best = max(rows, key=lambda row: row["accuracy"])
    gain = ensemble_gain(looks, len(context.resolutions))
    return Findings(
        "patches: accuracy and cost at each resolution in patches of each size",
        rows,
        f"best: accuracy {best['accuracy']:.3f} at resolution {best['resolution']:g} in patches of "
        f"{best['patch_size']}; on the front of accuracy and cost lie patches of "
        f"{', '.join(str(size) for size in sizes if any(places[k][0] == size for k in front))}; the mean of two "
        f"neighbouring sizes is at best {100 * gain:+.1f} points from one look at no more cost",
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


def ensemble_gain(looks: list[Look], resolutions: int) -> float:
    """The most that the mean logits of two neighbouring patch sizes, at one resolution, gain over the best single look
    that costs no more.   [FlexiViT: almost never better]"""
    cost, right = np.array([(seen.flops.mean(), seen.correct.mean()) for seen in looks]).T
    gains = []
    for k in range(len(looks) - resolutions):
        one, other = looks[k], looks[k + resolutions]
        both = ((one.output + other.output).argmax(-1) == one.labels).mean()
        gains.append(both - right[cost <= cost[k] + cost[k + resolutions]].max())
    return float(max(gains, default=0.0))


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
        best = sorted((row["mean_gflops"], row["accuracy"]) for row in rows if row["on_front"])
        right.plot(*zip(*best), "k*:", ms=9, lw=1, label="front over both")
        right.set(xlabel="GFLOPs per image (mean, forward)", ylabel="accuracy", xscale="log")
        right.set_title("Each line: one patch size at all resolutions", fontsize=11)
        right.grid(alpha=0.3)
        right.legend(frameon=False)
