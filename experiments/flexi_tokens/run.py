"""What a flexible model makes of patch sizes: similar tokens, sizes it was not trained at, ensembles.

[FlexiViT, figs. 6, 13, 30]
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.claims import Claim
from experiments.flexi_bed import BASE, MIDDLE, SCALES, SIZES, flexible
from experiments.pictures import line, statistics
from experiments.trained import Experiment, main
from experiments.trial import model_after, source
from harness.config import Config
from harness.evaluation.pictures import COLORS, sheet
from harness.evaluation.predictions import Context, context_of, model_for_patch
from harness.evaluation.studies.patches import ensemble_gain, patches
from harness.evaluation.studies.similarity import similarity

MODEL = "flexible"
DEPTH = 4  # layers, so that there is a middle
OTHER = tuple(size for size in SIZES if size != BASE)
BETWEEN = {7: (6, 8), 9: (8, 10), 11: (10, 12), 13: (12, 15)}  # sizes that were not trained, and their neighbours
FINER = 5


def arms(steps: int) -> dict[str, Config]:
    """Half as many steps in twice as many layers as the model of flexi_sizes."""
    config = flexible(round(steps / 2))
    return {MODEL: replace(config, model=replace(config.model, depth=DEPTH, unroll=DEPTH))}


def trial(config: Config, settings: Sequence[str], keep: Path | None = None) -> dict:
    """Train, then read the model in every way."""
    start = time.perf_counter()
    model, config, task, spent = model_after(config, keep)
    images = source(config, "val")
    context = context_of(model, config, images, task, (MIDDLE,))
    found = by_layer(context) | by_size(context) | together(context_of(model, config, images, task, SCALES))
    return {"accuracy": found, **spent, "seconds": time.perf_counter() - start}


def by_layer(context: Context) -> dict[str, float]:
    """CKA of tokens at another size and at the own one; how often the most similar token is at the same place."""
    found: dict[str, float] = {}
    for row in similarity(context).rows:
        found[f"CKA {row['patch_size']}, layer {row['layer']}"] = row["cka"]
        if row["layer"] == DEPTH:
            found[f"same place {row['patch_size']}"] = row["same_place"]
            found[f"five times chance {row['patch_size']}"] = 5 * row["same_place_chance"]
    return found


def by_size(context: Context) -> dict[str, float]:
    """Accuracy at trained sizes and at others."""
    sizes = sorted({*SIZES, *BETWEEN, FINER})
    law = context.sampling_at(MIDDLE)
    each = {size: replace(context, model=model_for_patch(context.model, (size, size)), cache={}) for size in sizes}
    return {f"{size} px": float(each[size].predict(law, patch=(size, size)).scores.mean()) for size in sizes}


def together(context: Context) -> dict[str, float]:
    """The largest gain of an ensemble of sizes over one setting at no higher cost, over all resolutions."""
    return {"ensemble": ensemble_gain(patches(context).rows), "one setting": 0.0}


def read(trials: list[dict]) -> list[dict]:
    """An arm for each reading."""
    return [t | {"arm": name, "accuracy": {"": value}} for t in trials for name, value in t["accuracy"].items()]


def least_inside(size: int) -> tuple:
    """After the last layer against each one inside."""
    return tuple(((f"CKA {size}, layer {DEPTH}",), (f"CKA {size}, layer {layer}",)) for layer in range(1, DEPTH))


CLAIMS = (
    *(Claim(f"CKA of tokens at {size} and at {BASE} px is higher after the last layer than after any before", 0.0,
            least_inside(size)) for size in OTHER),
    Claim("After the last layer the most similar token of another size is at the same place, five times as often as "
          "by chance", 0.0, tuple(((f"same place {s}",), (f"five times chance {s}",)) for s in OTHER)),
    Claim("Between trained sizes accuracy is at most two points below the mean of the neighbours", -0.02,
          tuple(((f"{size} px",), tuple(f"{n} px" for n in pair)) for size, pair in BETWEEN.items())),
    Claim(f"At {FINER} px, finer than all, it is at most ten points below {SIZES[0]} px", -0.10,
          (((f"{FINER} px",), (f"{SIZES[0]} px",)),)),
    Claim("No ensemble of sizes is more than half a point better than one setting at its cost", -0.005,
          ((("one setting",), ("ensemble",)),)),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    known = {"trials": read(result["trials"])}
    with sheet(path, 2) as (left, right):
        for color, size in zip(COLORS, OTHER):
            names = [f"CKA {size}, layer {layer}" for layer in range(DEPTH + 1)]
            points = np.array([statistics(known, name) for name in names]) / 100
            line(left, range(DEPTH + 1), points, f"{size} px", color=color)
        left.set(xlabel="layer (0: embedding)", ylabel=f"linear CKA with {BASE} px (bars: 95 % interval)")
        left.set_title("Similarity of the tokens")
        for sizes, how in ((SIZES, "o-"), ((FINER, *BETWEEN), "x")):
            mean, error = zip(*(statistics(known, f"{size} px") for size in sizes))
            right.errorbar(sizes, mean, error, fmt=how, capsize=2, label="trained" if how == "o-" else "not trained")
        right.set(xlabel="patch size at test time (pixels)", ylabel="accuracy, % (bars: 95 % interval)")
        right.set_title("Sizes that were trained, and others")
        for axis in (left, right):
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, ("readings",), CLAIMS, draw, read, trial))
