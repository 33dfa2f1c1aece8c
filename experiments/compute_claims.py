"""What figure 1 claims, for any test bed with arms "navit, 2x", "square, 2x", "vit, 2x": claims, factor of compute, and
picture."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.claims import Claim, estimate
from experiments.compute_bed import OWN
from experiments.pictures import statistics
from harness.config import Config
from harness.evaluation.pictures import sheet

BUDGETS = (1, 2, 4, 8)  # times the compute of the smallest
KINDS = ("navit", "square", "vit")


def best_and_searched(
    recipe: Callable[..., Config],
    best: Mapping[str, tuple[str, float]],
    searched: Any,
    sizes: Mapping[str, Iterable[str]],
    rates: Sequence[float],
    steps: int,
) -> dict[str, Config]:
    """Each kind by its best recipe (sizes, rate) at every budget; and all recipes at twice the smallest, on the images
    `searched`."""
    found = {f"{kind}, {b}x": recipe(kind, *best[kind], b * steps) for b in BUDGETS for kind in KINDS}
    tried = ((kind, name, rate) for kind in KINDS for name in sizes[kind] for rate in rates)
    return found | {
        f"search: {kind}, {name}, rate {rate}": recipe(kind, name, rate, 2 * steps, searched)
        for kind, name, rate in tried
    }


def at_least(part: int) -> Claim:
    """NaViT at a part of the largest budget against ViT at all of it."""
    most = BUDGETS[-1]
    return Claim(
        f"NaViT with 1/{part} of the compute is at least as good as ViT with all of it",
        0.0,
        (((f"navit, {most // part}x",), (f"vit, {most}x",)),),
    )


CLAIMS = (
    Claim("NaViT is better than ViT at every budget", 0.0,
          tuple(((f"navit, {b}x",), (f"vit, {b}x",)) for b in BUDGETS)),
    *map(at_least, (2, 4, 8)),
    Claim("The same compute on squashed squares, packed, is worse at every budget: it is the aspect ratio", 0.0,
          tuple(((f"navit, {b}x",), (f"square, {b}x",)) for b in BUDGETS)),
    Claim("Packing alone, of squares of many sizes, is better than ViT at every budget", 0.0,
          tuple(((f"square, {b}x",), (f"vit, {b}x",)) for b in BUDGETS)),
)  # fmt: skip


def factors(trials: Sequence[Mapping]) -> tuple[list[float], bool]:
    """For each seed, the compute of ViT at its largest budget over that at which NaViT is as good, between budgets
    linear in log compute; and whether any is only a bound, because NaViT's smallest budget was already enough."""
    found, bound = [], False
    for seed in sorted({t["seed"] for t in trials if t["arm"].startswith("vit")}):
        line = {t["arm"]: t for t in trials if t["seed"] == seed}
        costs, reached = (np.array([of(line[f"navit, {b}x"]) for b in BUDGETS]) for of in (cost, accuracy))
        goal = line[f"vit, {BUDGETS[-1]}x"]
        reached = np.maximum.accumulate(reached)
        bound |= bool(reached[0] >= accuracy(goal))
        needed = np.exp(np.interp(accuracy(goal), reached, np.log(costs)))
        found.append(float(cost(goal) / needed))
    return found, bound


def cost(trial: Mapping) -> float:
    return trial["flops"]


def accuracy(trial: Mapping) -> float:
    return trial["accuracy"][OWN]


def draw(result: Mapping, path: Path) -> None:
    with sheet(path, 2) as (left, right):
        against(left, result, "flops", "training compute, FLOPs")
        against(right, result, "images", "images seen")
        found, bound = factors(result["trials"])
        mean, _, interval = estimate([*np.log(found)])
        low, middle, high = np.exp([mean - interval, mean, mean + interval])
        less = " or less" if bound else ""
        left.set_title(f"ViT's best for 1/{middle:.1f} of the compute{less} (95 %: {low:.1f} to {high:.1f}; paper: 4)")
        right.set_title("The same trainings by images seen")


def against(axis: Any, result: Mapping, what: str, label: str) -> None:
    """Accuracy of each kind over a cost."""
    for kind in KINDS:
        names = [f"{kind}, {b}x" for b in BUDGETS]
        x = [np.mean([t[what] for t in result["trials"] if t["arm"] == name]) for name in names]
        mean, error = zip(*(statistics(result, name) for name in names))
        axis.errorbar(x, mean, error, fmt="o-", capsize=2, label=kind)
    axis.set(xscale="log", xlabel=label, ylabel="accuracy, % (bars: 95 % interval)")
    axis.grid(alpha=0.3)
    axis.legend()
