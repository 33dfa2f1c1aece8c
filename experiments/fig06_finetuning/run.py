"""One fine-tuning at all resolutions, or one for each: accuracy, and accuracy on corrupted images.

[NaViT, figs. 6, 22]
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.sampling.resolution import Native
from data.sources.corrupted import Corrupted, changes
from data.sources.source import Chosen
from experiments.claims import Claim
from experiments.compute_bed import feed, vit
from experiments.pairs import fine_tuned
from experiments.pictures import line, statistics
from experiments.trained import Experiment, main
from experiments.trial import model_after, source
from harness.config import Config
from harness.evaluation.pictures import COLORS, sheet
from harness.evaluation.predictions import Context, context_of
from harness.evaluation.studies.corruptions import predictions_of
from reference.evaluation.corruptions import CORRUPTIONS

RESOLUTIONS = (0.6, 0.8, 1.0, 1.3)
LAW = Native(RESOLUTIONS[0], RESOLUTIONS[-1])
SIDES = (16, 24, 32, 40)  # of the squares of ViT
NAVIT, VIT = "NaViT", "ViT"
ALL = "NaViT, fine-tuned at all"
RATE, SQUARE_RATE, STEPS = 0.01, 0.02, 150  # the rates of figure 1; those of fine-tuning are a fifth
IMAGES, SEVERITY = 400, 3  # corrupted strips, and the middle severity


def at(resolution: float) -> str:
    return f"NaViT, fine-tuned at {resolution:g}"


def square(side: int) -> str:
    return f"ViT, fine-tuned at {side}"


def arms(steps: int) -> dict[str, Config]:
    """Twice the smallest budget of figure 1 each, then equal fine-tunings on pairs."""
    navit, plain = feed(LAW, RATE, 1.0, 2 * steps), vit(24, SQUARE_RATE, 2 * steps)
    ours = {ALL: LAW} | {at(r): Native(r, r) for r in RESOLUTIONS}
    return {
        NAVIT: navit,
        **{arm: fine_tuned(navit, NAVIT, STEPS, RATE / 5, resolution=law) for arm, law in ours.items()},
        VIT: plain,
        **{square(s): fine_tuned(vit(s, SQUARE_RATE, 1), VIT, STEPS, SQUARE_RATE / 5) for s in SIDES},
    }


def budget(arm: str) -> float:
    """Compute of an arm, in units of a fine-tuning."""
    return 4.0 if arm in (NAVIT, VIT) else 1.0


def trial(config: Config, settings: Sequence[str], keep: Path | None = None) -> dict:
    """Train; NaViT is seen at all resolutions, and corrupted where it was fine-tuned; ViT at its own side."""
    start = time.perf_counter()
    model, config, task, spent = model_after(config, keep)
    context = context_of(model, config, source(config, "val"), task)
    law = config.data.resolution
    if isinstance(law, Native):
        seen = {f"at {r:g}": float(context.predict(law.at(r)).scores.mean()) for r in RESOLUTIONS}
        tuned = [r for r in RESOLUTIONS if law.lo <= r <= law.hi] if config.start else []
        seen |= {f"corrupted, at {r:g}": corrupted(context, r) for r in tuned}
    else:
        seen = {"": float(context.predict(context.sampling_at(config.data.reported_at)).scores.mean())}
    return {"accuracy": seen, **spent, "seconds": time.perf_counter() - start}


def corrupted(context: Context, resolution: float) -> float:
    """Mean accuracy over all corruptions, at their middle severity."""
    config = replace(context.config, data=replace(context.config.data, val_resolution=resolution))
    some = Chosen(context.source, np.arange(min(IMAGES, len(context.source.manifest))))
    each = replace(context, config=config, resolutions=(resolution,), cache={})
    names = [name for name, known in CORRUPTIONS.items() if len(known.strengths) >= SEVERITY and changes(some, name)]
    return float(np.mean([predictions_of(each, Corrupted(some, name, SEVERITY)).scores.mean() for name in names]))


def read(trials: list[dict]) -> list[dict]:
    """An arm for each resolution at which NaViT is seen."""
    return [
        t | {"arm": f"{t['arm']}, {place}" if place else t["arm"], "accuracy": {"": value}}
        for t in trials
        for place, value in t["accuracy"].items()
    ]


EACH = tuple(((f"{ALL}, at {r:g}",), (f"{at(r)}, at {r:g}",)) for r in RESOLUTIONS)
CORRUPT = tuple(((f"{ALL}, corrupted, at {r:g}",), (f"{at(r)}, corrupted, at {r:g}",)) for r in RESOLUTIONS)

CLAIMS = (
    Claim("One fine-tuning at all resolutions is at most a point and a half below that at each", -0.015, EACH),
    Claim("Over the resolutions together at most half a point", -0.005,
          ((tuple(pair[0][0] for pair in EACH), tuple(pair[1][0] for pair in EACH)),)),
    Claim("It is better than ViT fine-tuned at any side, at every resolution", 0.0,
          tuple(((f"{ALL}, at {r:g}",), (square(s),)) for r in RESOLUTIONS for s in SIDES)),
    Claim("Fine-tuned at 0.6, it gains a point or more at 0.8", 0.01,
          (((f"{at(0.6)}, at 0.8",), (f"{at(0.6)}, at 0.6",)),)),
    Claim("On corrupted strips the one fine-tuning is at most two points below that at each resolution", -0.02,
          CORRUPT),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    known = {"trials": read(result["trials"])}
    points = lambda arms, place: [statistics(known, f"{arm}, {place} {r:g}") for arm, r in zip(arms, RESOLUTIONS)]
    each = [at(r) for r in RESOLUTIONS]
    with sheet(path, 2) as (left, right):
        for color, arm in zip(COLORS, (ALL, at(RESOLUTIONS[0]), at(RESOLUTIONS[-1]))):
            line(left, RESOLUTIONS, points([arm] * len(RESOLUTIONS), "at"), arm, color=color)
        for axis, place, title in ((left, "at", "Pairs of digits"), (right, "corrupted, at", "Corrupted")):
            line(axis, RESOLUTIONS, points(each, place), "one fine-tuning for each", fmt="ks:")
            axis.set(xlabel="resolution", ylabel="accuracy, % (bars: 95 % interval)", title=title)
        line(right, RESOLUTIONS, points([ALL] * len(RESOLUTIONS), "corrupted, at"), ALL, color=COLORS[0])
        for axis in (left, right):
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, ("readings",), CLAIMS, draw, read, trial))
