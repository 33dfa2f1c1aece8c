"""One model read in many ways: more tokens, fewer tokens, two predictions, confidence.

[NaViT, figs. 1 (right), 17, 19, table 4]
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.sampling.resolution import Native
from experiments.claims import Claim
from experiments.compute_bed import feed
from experiments.pictures import line, statistics
from experiments.trained import Experiment, main
from experiments.trial import model_after, source
from harness.config import Config
from harness.evaluation.pictures import sheet
from harness.evaluation.predictions import Context, context_of
from harness.evaluation.studies.calibration import calibration
from harness.evaluation.studies.cascade import candidates_of, cascade, one_each, outcome
from harness.evaluation.studies.dropping import compare_at as fewer_at
from harness.evaluation.studies.upscaling import compare_at as enlarged_at

LAW = Native(0.4, 1.65)
INSIDE = (0.6, 0.8, 1.0, 1.2, 1.5)  # of the trained range
TOP = INSIDE[-1]
BEYOND = 1.8
MODEL = "one model"
ALIKE = 0.02  # calibration errors that far apart count as equal


def arms(steps: int) -> dict[str, Config]:
    """One training, four times as long as the smallest budget of figure 1."""
    return {MODEL: feed(LAW, 0.01, TOP, 4 * steps)}


def trial(config: Config, settings: Sequence[str], keep: Path | None = None) -> dict:
    """Train, then read the model in every way."""
    start = time.perf_counter()
    model, config, task, spent = model_after(config, keep)
    context = context_of(model, config, source(config, "val"), task, (*INSIDE, BEYOND))
    ways = (by_resolution, by_dropping, by_enlarging, by_cascade, by_calibration)
    found = {name: float(value) for way in ways for name, value in way(context).items()}
    tokens = {f"{r:g}": float(context.predict(context.sampling_at(r)).tokens.mean()) for r in (*INSIDE, BEYOND)}
    return {"accuracy": found, **spent, "mean_tokens": tokens, "seconds": time.perf_counter() - start}


def by_resolution(context: Context) -> dict:
    """Accuracy on all images."""
    return {f"accuracy at {r:g}": context.predict(context.sampling_at(r)).scores.mean() for r in (*INSIDE, BEYOND)}


def by_dropping(context: Context) -> dict:
    """As many tokens as an image has at a resolution: a smaller image, or a part of the large one."""
    rows = {r: fewer_at(context, r, TOP) for r in INSIDE[:-1]}
    return {f"{side} to {r:g}": row[f"{side}_score"] for r, row in rows.items() for side in ("resize", "drop")}


def by_enlarging(context: Context) -> dict:
    """Images enlarged above their native size, or not."""
    rows = {r: enlarged_at(context, r) for r in (*INSIDE, BEYOND) if r > 1}
    return {f"{side} at {r:g}": row[f"{side}_score"] for r, row in rows.items() for side in ("enlarged", "own")}


def by_cascade(context: Context) -> dict:
    """Pairs of the front, and one resolution at the same cost, by interpolation in log cost; chosen on one half of the
    images, measured on the other."""
    choose, test = candidates_of(context)
    front = [row for row in cascade(context).rows if row["better"] is not None]
    alone = [outcome(setting, test) for setting in one_each(test)]
    cost, score = (np.array([each[name] for each in alone]) for name in ("mean_gflops", "score"))
    inside = [row for row in front if cost[0] <= row["mean_gflops"] <= cost[-1]]
    equal = [np.interp(np.log(row["mean_gflops"]), np.log(cost), score) for row in inside]
    return {"two predictions": np.mean([row["score"] for row in inside]), "one of equal cost": np.mean(equal)}


def by_calibration(context: Context) -> dict:
    """1 - expected calibration error as trained, so that more is better; and the largest one less ALIKE."""
    rows = dict(zip(context.resolutions, calibration(context).rows))
    kept = {f"calibration at {r:g}": 1 - rows[r]["ece"] for r in INSIDE}
    return kept | {"best calibration": max(kept.values())}


def read(trials: list[dict]) -> list[dict]:
    """An arm for each reading."""
    return [t | {"arm": name, "accuracy": {"": value}} for t in trials for name, value in t["accuracy"].items()]


def pairs(first: str, second: str, resolutions: Sequence[float]) -> tuple:
    return tuple(((f"{first} {r:g}",), (f"{second} {r:g}",)) for r in resolutions)


CLAIMS = (
    Claim("Accuracy rises with the tokens of an image, from each resolution to the next", 0.0,
          tuple(((f"accuracy at {b:g}",), (f"accuracy at {a:g}",)) for a, b in zip(INSIDE, INSIDE[1:]))),
    Claim("Beyond the trained range it stays within two points", -0.02,
          (((f"accuracy at {BEYOND:g}",), (f"accuracy at {TOP:g}",)),)),
    Claim("With fewer tokens a smaller image is better than a part of the large one, at every number", 0.0,
          pairs("resize to", "drop to", INSIDE[:-1])),
    Claim("Enlarging above native size is not worse by more than half a point", -0.005,
          pairs("enlarged at", "own at", [r for r in (*INSIDE, BEYOND) if r > 1])),
    Claim("Two predictions are better than one at equal cost", 0.0, ((("two predictions",), ("one of equal cost",)),)),
    Claim("The calibration error of every resolution is at most two points above the smallest", -ALIKE,
          tuple(((f"calibration at {r:g}",), ("best calibration",)) for r in INSIDE)),
)  # fmt: skip


def draw(result: Mapping, path: Path) -> None:
    """Accuracy over tokens, whole and with dropped tokens; calibration error over tokens."""
    known = {"trials": read(result["trials"])}
    tokens = {float(r): count for r, count in result["trials"][0]["mean_tokens"].items()}
    with sheet(path, 2) as (left, right):
        over_tokens(left, known, "accuracy at", tokens, "all tokens of a resized image")
        over_tokens(
            left, known, "drop to", {r: tokens[r] for r in INSIDE[:-1]}, f"resolution {TOP:g}, tokens dropped at random"
        )
        over_tokens(right, known, "calibration at", {r: tokens[r] for r in INSIDE}, "one model")
        left.set(ylabel="accuracy, % (bars: 95 % interval)", title="Fewer tokens: resize, or drop?")
        right.set(ylabel="1 - calibration error, %", title="Calibration over tokens")


def over_tokens(axis: Any, result: Mapping, name: str, tokens: Mapping[float, float], label: str) -> None:
    line(axis, [*tokens.values()], [statistics(result, f"{name} {r:g}") for r in tokens], label)
    axis.set(xlabel="tokens of an image (mean)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


if __name__ == "__main__":
    main(Experiment(Path(__file__).parent, arms, ("readings",), CLAIMS, draw, read, trial))
