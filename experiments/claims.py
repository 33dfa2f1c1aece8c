"""Claims with a margin fixed beforehand, and the rule that judges them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import t

from experiments.settings import AnySetting, name

Verdict = Literal["holds", "fails", "open"]
Arms = tuple[str, ...]
CONFIDENCE = 0.95  # of intervals, two-sided


@dataclass(frozen=True)
class Claim:
    """In each pair the mean accuracy of the first arms exceeds that of the second by at least `by`."""

    says: str
    by: float
    """Margin in accuracy; below 0 the first may be worse by as much."""
    pairs: tuple[tuple[Arms, Arms], ...]
    at: tuple[AnySetting, ...] = ()
    """Settings over which accuracy is averaged; empty takes all."""


def against_each(arm: str, others: Sequence[str]) -> tuple[tuple[Arms, Arms], ...]:
    """One arm above every other."""
    return tuple(((arm,), (other,)) for other in others if other != arm)


def each_against(arms: Sequence[str], other: str) -> tuple[tuple[Arms, Arms], ...]:
    """Every arm above one other."""
    return tuple(((arm,), (other,)) for arm in arms if arm != other)


def verdict(differences: Sequence[float], by: float) -> Verdict:
    """Where the interval of the mean difference lies: above `by`, below it, or around it."""
    mean, _, interval = estimate(differences)
    if mean - interval >= by:
        return "holds"
    return "fails" if mean + interval < by else "open"


class Estimate(NamedTuple):
    """A mean over seeds."""

    mean: float
    error: float
    """Its standard error, s / √n with n − 1 in the variance."""
    interval: float
    """Half the width of its 95 % interval, by Student's t with n − 1 degrees of freedom."""


def estimate(values: Sequence[float]) -> Estimate:
    """Raises ValueError on fewer than two values, which have no standard error."""
    count = len(values)
    if count < 2:
        raise ValueError(f"{count} seed has no standard error: run at least 2")
    error = float(np.std(values, ddof=1) / np.sqrt(count))
    return Estimate(float(np.mean(values)), error, float(t.ppf((1 + CONFIDENCE) / 2, count - 1) * error))


def weakest(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim about several pairs: it fails where one fails and holds where all hold."""
    return next((v for v in ("fails", "open") if v in verdicts), "holds")


def judge(claim: Claim, trials: Sequence[Mapping]) -> dict:
    """The claim, its pairs with paired differences over seeds, and the verdict."""
    pairs = []
    for first, second in claim.pairs:
        by_seed = [{s: np.mean([score(trials, arm, s, claim.at) for arm in arms]) for s in seeds(trials, arms)}
                   for arms in (first, second)]  # fmt: skip
        common = sorted(by_seed[0].keys() & by_seed[1].keys())
        differences = [float(by_seed[0][s] - by_seed[1][s]) for s in common]
        mean, error, interval = estimate(differences)
        pairs.append({
            "first": list(first), "second": list(second), "difference": mean, "error": error, "interval": interval,
            "seeds": len(common), "verdict": verdict(differences, claim.by),
        })  # fmt: skip
    return {
        "says": claim.says,
        "by": claim.by,
        "at": list(claim.at),
        "pairs": pairs,
        "verdict": weakest([pair["verdict"] for pair in pairs]),
    }


def seeds(trials: Sequence[Mapping], arms: Arms) -> set[int]:
    """Those with which every one of the arms was trained."""
    return set.intersection(*({t["seed"] for t in trials if t["arm"] == arm} for arm in arms))


def score(trials: Sequence[Mapping], arm: str, seed: int, at: Sequence[AnySetting] = ()) -> float:
    """Mean accuracy of one trial over some settings, or all."""
    found = next(t["accuracy"] for t in trials if t["arm"] == arm and t["seed"] == seed)
    return float(np.mean([found[name(setting)] for setting in at] if at else list(found.values())))
