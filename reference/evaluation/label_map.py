"""Predictions of one set of classes as answers in another: what a target class gets from its members."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

How = Literal["mean", "max", "sum", "logsumexp"]
TAKEN: dict[How, Callable[..., np.ndarray]] = {
    "mean": np.mean,
    "max": np.max,
    "sum": np.sum,
    "logsumexp": np.logaddexp.reduce,
}


def target_scores(
    scores: Float[np.ndarray, "N S"], members: Sequence[Int[np.ndarray, " _"]], how: How = "mean"
) -> Float[np.ndarray, "N Y"]:
    """The mean, largest or total probability of the source classes that are members of each target class; of logits,
    log Σ exp.

    −∞ for a target without members: it is never the answer. Source classes that are in no target are left out, so that
    the arg-max is a *forced choice* among targets.   Choice: the mean, as the benchmark model-vs-human does; the sum
    prefers targets with many members. log Σ exp of logits answers as the sum of their softmax does, without underflow.
    """
    found = np.full((len(scores), len(members)), -np.inf)
    for target, sources in enumerate(members):
        if len(sources):
            found[:, target] = TAKEN[how](scores[:, sources], axis=1)
    return found
