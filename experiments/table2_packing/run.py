"""Images a row and padding under the settings of the paper's runs.   [NaViT, table 2; app. A.3]"""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int

from data.plan import plan_epoch
from data.sampling.dropping import Beta, Constant, Dropping
from data.sampling.packing import ExactFit, FirstFit, Packing, Rule
from data.sampling.resolution import Sides
from experiments.computed import command_line, main, stated
from harness.evaluation.pictures import sheet

FOLDER = Path(__file__).parent
IMAGES, SPREAD = 20_000, 0.3  # of the logarithm of the aspect ratio: photographs, about
SETTINGS: dict[str, tuple[int, int, Dropping]] = {
    "P 16, half dropped": (16, 256, Constant(0.5)),
    "P 16, Beta(0.5, 0.9)": (16, 256, Beta(0.5, 0.9)),
    "P 32, half dropped": (32, 64, Constant(0.5)),
    "P 16, none dropped": (16, 256, Constant(0.0)),
}
RULES: dict[str, Rule] = {
    "first fit, 8 rows open": FirstFit(8),
    "first fit, 64 rows open": FirstFit(64),
    "first fit, 64, 16 misfits": FirstFit(64, misfits=16),
    "exact fit": ExactFit(64),
}
PAPER = FirstFit(64)
TABLE2 = {"P 16, half dropped": (4.88, 0.1), "P 32, half dropped": (5.41, 0.15)}  # images a row, tolerance


def photographs(count: int = IMAGES) -> Int[np.ndarray, "N 2"]:
    """Sizes of a megapixel each with log-normal aspect ratios."""
    half = SPREAD / 2 * np.random.default_rng(0).normal(size=count)
    return np.rint(1000 * np.exp(np.stack([half, -half], -1))).astype(np.int32)


def packed(setting: str, rule: Rule, count: int = IMAGES) -> tuple[float, float]:
    """(images a row, share of padding)."""
    patch, tokens, dropping = SETTINGS[setting]
    plan = plan_epoch(
        photographs(count),
        seed=0,
        epoch=0,
        patch_size=(patch, patch),
        resolution=Sides(64, 256),
        dropping=dropping,
        packing=Packing(tokens, 24, rule),
        longest_side=256,
    )
    return float((plan.image_ids >= 0).sum() / len(plan.image_ids)), float(plan.padding(tokens))


def measure(options: Namespace) -> dict:
    found = {s: {name: packed(s, rule) for name, rule in RULES.items()} for s in SETTINGS}
    table = [
        {"setting": s}
        | {name: f"{images:.2f} images, {padding:.2%} padding" for name, (images, padding) in rules.items()}
        for s, rules in found.items()
    ]
    first, exact = "first fit, 64 rows open", "exact fit"
    claims = [
        stated(f"{s}: {want} ± {by} images a row by first fit", f"{found[s][first][0]:.2f}",
               abs(found[s][first][0] - want) <= by) for s, (want, by) in TABLE2.items()
    ]  # fmt: skip
    worst = max(found[s][first][1] for s in TABLE2)
    claims.append(stated("Padding is below 2 % by first fit with 64 rows open", f"{worst:.2%} at most", worst < 0.02))
    best = max(found[s][exact][1] for s in TABLE2)
    claims.append(stated("Exact fit wastes at most a tenth of that", f"{best:.3%} at most", best <= worst / 10))
    return {"claims": claims, "tables": [table], "found": found}


def draw(result: Mapping, path: Path) -> None:
    found = result["found"]
    with sheet(path, 2) as axes:
        for place, (axis, label) in enumerate(zip(axes, ("images a row", "padding, %"))):
            for number, rule in enumerate(RULES):
                heights = [(1, 100)[place] * found[s][rule][place] for s in found]
                x = np.arange(len(found)) + 0.2 * (number - 1.5)
                axis.bar(x, np.maximum(heights, 0.003 if place else 0), 0.2, label=rule)
            axis.set_xticks(range(len(found)), [s.replace(", ", "\n", 1) for s in found])
            axis.set_title(label)
        axes[1].set_yscale("log")
        axes[1].axhline(2, color="grey", linestyle=":", label="2 %, the paper's bound")
        for (want, by), s in zip(TABLE2.values(), TABLE2):
            place = list(found).index(s)
            axes[0].fill_between([place - 0.45, place + 0.45], want - by, want + by, color="black", alpha=0.2)
        axes[0].set_xlabel("grey bands: the paper's table 2")
        axes[1].set_ylim(0.002, 400)
        axes[1].legend(fontsize=8, ncols=2, loc="upper center")


if __name__ == "__main__":
    main(FOLDER, measure, draw, command_line())
