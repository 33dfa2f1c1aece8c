"""The best way to read images within a budget: resolution, patch size, merging, and a second prediction where needed.

The axes are a list: what else the cost of an image depends on is a field of `Reading` and a line in AXES.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from data.errors import DataError
from data.sampling.kinds import square
from data.sampling.merge import Merge, MergeByThreshold
from navit_eqx import preprocessing as rules
from navit_eqx.errors import ConfigError, check
from navit_eqx.inference import Runner, forward
from reference.evaluation.cascade import pareto_front
from reference.evaluation.trade_off import best_within

from ..budget import Budget, Reading
from ..pictures import sheet
from ..predictions import Context, Predictions, halves, measures, model_for_patch, on_common_images
from .calibration import LINKS, confidences, link
from .cascade import Candidate, Setting, one_each, settings
from .findings import Findings, difference
from .merge import check_mergeable

ALONE = ("scales", "rule", "spread", "quantiles")  # what merging has beside its rate
ROUNDS = 7  # timed repetitions of each batch, interleaved: what disturbs one reading disturbs all


class Axis(NamedTuple):
    """A field of `Reading`, and its values for a model."""

    field: str
    values: Callable[[Context], Sequence[Any]]


def sides(context: Context) -> tuple[int | None, ...]:
    """Sides of the patches that the model was trained on or `--patch-sizes` names; None: its own patch."""
    config = context.config.model
    if context.patch:
        return (context.patch[0],)
    return (None, *(p[0] for p in config.patches[1:])) if config.tubelets is None else (None,)


def rates(context: Context) -> tuple[float | None, ...]:
    """Rates of merging that `--merge-rates` names; with `data.merge` its own and 0; None: nothing was ever merged.

    Raises ConfigError where nothing can be merged, or predictions by the stored choice would merge in another way.
    """
    used, info = context.config.data.merge, context.model.info
    trained = info.preprocessing.merge if info else None
    if context.merge_rates:
        check_mergeable(context)
    elif used is None and trained is None:
        return (None,)
    if isinstance(used, MergeByThreshold) or isinstance(trained, rules.MergeByThreshold):
        raise ConfigError("--budget chooses rates of merging, and data.merge has thresholds: --data.merge merge")
    known, mine = trained or Merge(), used or Merge()
    differs = [name for name in ALONE if getattr(known, name, None) != getattr(mine, name, None)]
    check(
        not differs,
        "--budget stores a rate of merging alone, the rest is as in training: "
        + " ".join(f"--data.merge.{name} {getattr(known, name, 'unset')}" for name in differs),
    )
    return context.merge_rates or ((used.rate, 0.0) if used else (0.0,))


AXES = (Axis("resolution", lambda context: context.resolutions), Axis("patch_size", sides), Axis("merge", rates))


def readings_of(context: Context) -> list[Reading]:
    """Every combination of values of the axes."""
    return [Reading(*values) for values in product(*(axis.values(context) for axis in AXES))]


def trade_off(context: Context) -> Findings:
    """Which resolution, patch size, rate of merging and cascade are best within a budget?

    Settings are chosen on one half of the images and measured on the other. Raises ConfigError where the budget is too
    small for every setting.
    """
    check(context.budget is not None, "name a budget for an image: --budget 5ms, or --budget 2GFLOP")
    budget: Any = context.budget
    choose, test = candidates_of(context, budget)
    tried = settings(choose) if has_confidence(context) else one_each(choose)
    cost = np.maximum(*(np.array([mean_cost(setting, half) for setting in tried]) for half in (choose, test)))
    score = np.array([mean_score(setting, choose) for setting in tried])
    front = pareto_front(cost, score)
    try:
        chosen = best_within(cost[front], score[front], budget.limit)
    except ValueError:
        least = tried[front[0]]
        raise ConfigError(
            f"--budget {budget}: every setting costs more; the smallest budget is "
            f"{budget.words(cost[front[0]])}, for {choose[least.cheap].reading.words()}"
        ) from None
    rows = [
        row(tried[k], test, float(cost[k]), float(score[k]), budget) | {"chosen": n == chosen}
        for n, k in enumerate(front)
    ]
    best, mine = (predictions_of(tried[k], test) for k in (front[-1], front[chosen]))
    gain, error = difference(mine, best)
    said = rows[chosen]
    return Findings(
        f"trade-off: the Pareto front of {len(tried)} settings on one half of the images (score chosen), measured on "
        "the other",
        rows,
        f"within {budget} an image: {context.metric} {said['score']:.3f} for "
        f"{budget.words(cost[front[chosen]])}, {100 * gain:+.1f} points (standard error {100 * error:.1f}) from the "
        f"best of all, which takes {budget.words(cost[front[-1]])}",
        "trade_off.png",
        partial(draw, rows, choose, test, budget),
    )


def candidates_of(context: Context, budget: Budget) -> tuple[list[Candidate], list[Candidate]]:
    """Candidates by every reading, cheapest first, on the half for selection and on the half for measurement.

    A reading that leaves out more images than `data.max_unreadable` is none. Raises DataError where all do.
    """
    found = {reading: seen for reading in readings_of(context) if (seen := predictions_by(context, reading))}
    check(
        not any(np.isnan(seen.score[0]) for seen in found.values()),
        f"a budget needs a score to choose by, and {context.config.task} has none",
    )
    if not found:
        raise DataError("too many images are left out or unreadable in every setting: choose smaller --resolutions")
    rates = seconds_per_token(context, found) if budget.is_time else None
    both: tuple[list[Candidate], list[Candidate]] = ([], [])
    for k, (reading, seen) in enumerate(zip(found, on_common_images([*found.values()]))):
        for side, half in zip(both, halves(seen)):
            cost = half.flops if rates is None else half.tokens * rates[k]
            half = half if rates is None else half._replace(seconds=float(cost.mean()))
            side.append(Candidate(reading, half, confidence_of(context, half), cost))
    order = np.argsort([each.cost.mean() for each in both[0]], kind="stable")
    return [both[0][k] for k in order], [both[1][k] for k in order]


def predictions_by(context: Context, reading: Reading) -> Predictions | None:
    """Predictions by a reading; None where it leaves out too many images."""
    sampling = context.sampling_at(reading.resolution or context.config.data.reported_at, reading.merge)
    try:
        seen = context.predict(sampling, patch=square(reading.patch_size) if reading.patch_size else None)
    except DataError:
        return None
    most = context.config.data.max_unreadable * len(context.source.manifest)
    return seen if seen.left_out + seen.unreadable <= most else None


def has_confidence(context: Context) -> bool:
    """Whether the task has class probabilities, by which a prediction is sure or not."""
    return getattr(context.config.task, "link", "") in LINKS


def confidence_of(context: Context, seen: Predictions) -> Float[np.ndarray, " N"]:
    """Confidence of each prediction; ∞ where the task has none."""
    if not has_confidence(context):
        return np.full(len(seen.scores), np.inf)
    return confidences(seen, link(context)).confidence


def seconds_per_token(context: Context, found: dict[Reading, Predictions]) -> Float[np.ndarray, " K"]:
    """Time of the forward passes over all batches, divided by all tokens of images: padding is paid by the images.

    The batches of one row length take the median time of the first of them, over interleaved rounds.
    """
    runs, runners = [], {}
    for reading, seen in found.items():
        size = reading.patch_size
        if size not in runners:
            model = model_for_patch(context.model, square(size) if size else None)
            runners[size] = Runner.on(model, forward, jax.local_devices())
        runs += [partial(runners[size], runners[size].put(rows)) for rows, _ in seen.batches]
    times = iter(medians(runs))
    return np.array(
        [sum(count * next(times) for _, count in seen.batches) / seen.tokens.sum() for seen in found.values()]
    )


def medians(runs: Sequence[Callable[[], Any]], rounds: int = ROUNDS) -> list[float]:
    """Median seconds of each run, warm."""

    def seconds(run: Callable[[], Any]) -> float:
        start = time.perf_counter()
        jax.block_until_ready(run())
        return time.perf_counter() - start

    for run in runs:
        seconds(run)
    return np.median([[seconds(run) for run in runs] for _ in range(rounds)], axis=0).tolist()


def again(setting: Setting, half: list[Candidate]) -> np.ndarray:
    """Images that are read again."""
    return half[setting.cheap].confidence < setting.threshold


def mean_cost(setting: Setting, half: list[Candidate]) -> float:
    """Mean cost of an image; that of a second prediction is added to that of the first."""
    return float((half[setting.cheap].cost + again(setting, half) * half[setting.better].cost).mean())


def mean_score(setting: Setting, half: list[Candidate]) -> float:
    """The metric of a setting."""
    cheap, better = half[setting.cheap].predictions, half[setting.better].predictions
    if setting.cheap == setting.better:
        return cheap.score[0]
    return float(np.where(again(setting, half), better.scores, cheap.scores).mean())


def predictions_of(setting: Setting, half: list[Candidate]) -> Predictions:
    """The predictions that a setting gives; tokens and FLOPs of both are added."""
    cheap, better = half[setting.cheap].predictions, half[setting.better].predictions
    twice = again(setting, half)
    pick = lambda one, other: np.where(twice.reshape(-1, *[1] * (one.ndim - 1)), other, one)
    return cheap._replace(
        scores=pick(cheap.scores, better.scores),
        outputs=pick(cheap.outputs, better.outputs),
        tokens=cheap.tokens + twice * better.tokens,
        flops=cheap.flops + twice * better.flops,
        seconds=cheap.seconds + float(twice.mean()) * better.seconds,
    )


def row(setting: Setting, test: list[Candidate], cost: float, score: float, budget: Budget) -> dict:
    """One row of the table: a setting, its cost and its score."""
    alone = setting.cheap == setting.better
    first, then = (test[k].reading for k in (setting.cheap, setting.better))
    return {
        **{axis.field: getattr(first, axis.field) for axis in AXES},
        **{f"then_{axis.field}": None if alone else getattr(then, axis.field) for axis in AXES},
        "threshold": None if alone else setting.threshold,
        "share": float(again(setting, test).mean()),
        "cost": cost / budget.scale,
        **measures(predictions_of(setting, test)),
        "score_chosen": score,
    }


def draw(rows: list[dict], choose: list[Candidate], test: list[Candidate], budget: Budget, path: Path) -> None:
    """Plot each reading alone, the front, the budget and the choice."""
    with sheet(path, 1) as (axis,):
        costs = [max(a.cost.mean(), b.cost.mean()) / budget.scale for a, b in zip(choose, test)]
        axis.plot(
            costs, [each.predictions.score[0] for each in test], "o", color="gray", alpha=0.6, label="one reading"
        )
        axis.plot([row["cost"] for row in rows], [row["score"] for row in rows], "k.-", lw=1, label="front")
        mine = next(row for row in rows if row["chosen"])
        axis.plot(mine["cost"], mine["score"], "*", ms=14, color="tab:red", label="chosen")
        axis.axvline(budget.amount, ls=":", color="tab:red", label=f"budget: {budget}")
        axis.set(xlabel=f"{budget.unit} per image (mean, forward)", ylabel="score", xscale="log")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
        axis.set_title("The front was chosen on the other half of the images", fontsize=11)
