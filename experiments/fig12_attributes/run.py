"""Do features of packed, native images tell more of attributes that were no label?   [NaViT, fig. 12, app. G]"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.claims import Claim, score
from experiments.compute_bed import budget as budget
from experiments.compute_bed import feed, vit
from experiments.fig01_compute.run import BEST, LAWS, SIDES
from experiments.pictures import dots
from experiments.trained import Experiment, main
from experiments.trial import model_after, source
from harness.config import Config
from harness.evaluation.pictures import sheet
from harness.evaluation.predictions import context_of
from harness.evaluation.studies.attributes import attributes
from reference.evaluation.signed_rank import signed_rank

BUDGETS = (1, 2, 4)  # times the compute of the smallest: the checkpoints of the paper
HIDDEN = ("half", "first digit")  # attributes that the size of a strip does not tell
FROM_SIZE = ("count", "orientation")
EXCESS = 0.05  # above chance, from which on the size of an image leaks an attribute
MARGIN = 0.01
NATIVE, SQUARE, ALONE, BOUND = "native", "square", "size alone", "chance and 5 points"


def arms(steps: int) -> dict[str, Config]:
    """NaViT and ViT as figure 1 found them, at three budgets."""
    law, at = LAWS[BEST["navit"][0]]
    packed = {f"navit, {b}x": feed(law, BEST["navit"][1], at, b * steps) for b in BUDGETS}
    single = {f"vit, {b}x": vit(SIDES[BEST["vit"][0]], BEST["vit"][1], b * steps) for b in BUDGETS}
    return packed | single


def trial(config: Config, settings: Sequence[str], keep: Path | None = None) -> dict:
    """Train, then probe the features of both views."""
    start = time.perf_counter()
    model, config, task, spent = model_after(config, keep)
    rows = attributes(context_of(model, config, source(config, "val"), task)).rows
    found = {f"{r['attribute']}, {r['view']}": r["score"] for r in rows}
    found |= {f"{r['attribute']}, {ALONE}": r["size_alone"] for r in rows if r["view"] == NATIVE}
    found |= {f"{r['attribute']}, {BOUND}": r["chance"] + EXCESS for r in rows if r["view"] == NATIVE}
    return {"accuracy": found, **spent, "seconds": time.perf_counter() - start}


def read(trials: list[dict]) -> list[dict]:
    """An arm for each way to look at the images of a model."""
    return [
        t
        | {"arm": f"{t['arm']}: {view}", "accuracy": {a: t["accuracy"][f"{a}, {view}"] for a in (*HIDDEN, *FROM_SIZE)}}
        for t in trials
        for view in (NATIVE, SQUARE, ALONE, BOUND)
    ]


def all_of(kind: str, view: str) -> tuple[str, ...]:
    """The arms of all budgets."""
    return tuple(f"{kind}, {b}x: {view}" for b in BUDGETS)


CLAIMS = (
    Claim("Native features of NaViT tell more of both hidden attributes than squares", MARGIN,
          ((all_of("navit", NATIVE), all_of("navit", SQUARE)),), HIDDEN),
    Claim("NaViT's features tell more of them than ViT's", MARGIN,
          ((all_of("navit", NATIVE), all_of("vit", SQUARE)),), HIDDEN),
    Claim("The size of a strip tells neither of them", 0.0,
          ((all_of("navit", BOUND), all_of("navit", ALONE)),), HIDDEN),
)  # fmt: skip


def cells(trials: Sequence[Mapping], first: tuple[str, ...], second: tuple[str, ...]) -> np.ndarray:
    """Paired differences, one for each seed and hidden attribute, averaged over budgets."""
    seeds = sorted({t["seed"] for t in trials})
    mean = lambda names, s, a: np.mean([score(trials, name, s, (a,)) for name in names])
    return np.array([mean(first, s, a) - mean(second, s, a) for s in seeds for a in HIDDEN])


def draw(result: Mapping, path: Path) -> None:
    """Balanced accuracy over the hidden attributes, and Wilcoxon's exact p beside the t intervals of the claims."""
    known = read(result["trials"])
    shown = [f"{kind}, {b}x: {view}" for kind, view in (("navit", NATIVE), ("navit", SQUARE), ("vit", SQUARE))
             for b in BUDGETS]  # fmt: skip
    tests = [(all_of("navit", NATIVE), all_of("navit", SQUARE)), (all_of("navit", NATIVE), all_of("vit", SQUARE))]
    p = [signed_rank(cells(known, *pair)) for pair in tests]
    with sheet(path, 1) as (axis,):
        dots(axis, {"trials": known}, shown, HIDDEN)
        axis.set(xlabel="balanced accuracy of linear probes, % (bars: 95 % interval)")
        axis.set_title(f"Wilcoxon's p: native above square {p[0]:.3g}, NaViT above ViT {p[1]:.3g}", fontsize=10)


if __name__ == "__main__":
    settings = tuple(f"{a}, {view}" for a in (*HIDDEN, *FROM_SIZE) for view in (NATIVE, SQUARE, ALONE))
    main(Experiment(Path(__file__).parent, arms, settings, CLAIMS, draw, read, trial, keep=True))
