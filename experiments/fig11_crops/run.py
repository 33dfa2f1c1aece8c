"""Crop or squash: what is lost where the object stands at an end?   [NaViT, figs. 11, 20, 21, table 5]"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.sources.digits import DigitStrips
from data.sources.source import Chosen
from experiments.claims import Claim
from experiments.compute_bed import budget as budget
from experiments.fig12_attributes.run import BUDGETS, arms
from experiments.pictures import statistics
from experiments.trained import Experiment, main
from experiments.trial import model_after, source
from harness.config import Config
from harness.evaluation.pictures import sheet
from harness.evaluation.predictions import context_of
from harness.evaluation.studies.crops import VIEWS, row_of

SPLITS = ("all", "end", "middle")
NAVIT_VIEW, *VIT_VIEWS = ("whole, aspect kept", "middle 75 %, squashed", "whole, squashed")
CROP, RESIZE = VIT_VIEWS


def parts(strips: DigitStrips) -> dict[str, np.ndarray]:
    """Strips with three digits or more whose lit digit stands at an end (as in ImageNet-A, long images with the object
    outside the middle), or in the middle third (as a crop assumes); and all."""
    long, place = strips.digits >= 3, (strips.lit + 0.5) / strips.digits
    end = long & ((strips.lit == 0) | (strips.lit == strips.digits - 1))
    return {"all": np.ones(len(place), bool), "end": end, "middle": long & (np.abs(place - 0.5) <= 1 / 6)}


def lost(strips: DigitStrips) -> float:
    """Share of the strips of the split `end` whose lit digit is more than half outside the middle 75 %."""
    cut = (strips.lit + 0.5) / strips.digits
    return float((np.abs(cut - 0.5) > 0.375)[parts(strips)["end"]].mean())


def trial(config: Config, settings: Sequence[str], keep: Path | None = None) -> dict:
    """Train, then evaluate every split in every view."""
    start = time.perf_counter()
    model, config, task, spent = model_after(config, keep)
    val = source(config, "val")
    assert isinstance(val, DigitStrips)
    found = {}
    for split, mask in parts(val).items():
        context = context_of(model, config, Chosen(val, np.flatnonzero(mask)), task)
        found |= {f"{split}: {view}": row_of(context, view)["score"] for view in VIEWS}
    return {"accuracy": found, **spent, "lost": lost(val), "seconds": time.perf_counter() - start}


def read(trials: list[dict]) -> list[dict]:
    """An arm for each view of a model, with an accuracy for each split."""
    return [
        t | {"arm": f"{t['arm']}: {view}", "accuracy": {s: t["accuracy"][f"{s}: {view}"] for s in SPLITS}}
        for t in trials
        for view in (NAVIT_VIEW, CROP, RESIZE)
    ]


def pair(budget: int, view: str) -> tuple[tuple[str], tuple[str]]:
    """NaViT on whole images against ViT in a view."""
    return (f"navit, {budget}x: {NAVIT_VIEW}",), (f"vit, {budget}x: {view}",)


CLAIMS = (
    Claim("Objects at an end: NaViT is five points above ViT on crops, at every budget", 0.05,
          tuple(pair(b, CROP) for b in BUDGETS), ("end",)),
    Claim("Objects in the middle: a crop helps ViT, at the largest budget", 0.0,
          (((f"vit, {BUDGETS[-1]}x: {CROP}",), (f"vit, {BUDGETS[-1]}x: {RESIZE}",)),), ("middle",)),
    Claim("All strips: NaViT is above ViT on squares, at every budget", 0.0,
          tuple(pair(b, RESIZE) for b in BUDGETS), ("all",)),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    """Accuracy against budget for each split: NaViT, and ViT in both views."""
    shown = {"trials": read(result["trials"])}
    with sheet(path, len(SPLITS)) as axes:
        for axis, split in zip(axes, SPLITS):
            for kind, view in (("navit", NAVIT_VIEW), ("vit", CROP), ("vit", RESIZE)):
                mean, error = zip(*(statistics(shown, f"{kind}, {b}x: {view}", (split,)) for b in BUDGETS))
                axis.errorbar(BUDGETS, mean, error, fmt="o-", capsize=2, label=f"{kind}: {view}")
            axis.set(
                xscale="log", xlabel="compute", ylabel="accuracy, % (bars: 95 % interval)", title=f"strips: {split}"
            )
            axis.grid(alpha=0.3)
        axes[0].legend(fontsize=8)
        share = result["trials"][0]["lost"]
        axes[1].set_title(f"lit digit at an end ({100 * share:.0f} % of them lie outside the middle 75 %)", fontsize=10)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, tuple(f"{s}: {v}" for s in SPLITS for v in VIEWS), CLAIMS, draw, read,
                    trial, keep=True))  # fmt: skip
