"""Cascades: a cheap prediction for every image, a better one where its confidence is low.   [NaViT, app. D]

Works on saved predictions: correctness and cost of both for each image, and the confidence of the cheap one.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Cascade(NamedTuple):
    """All K distinct cascades of two predictions, from the cheap one alone to both for every image."""

    threshold: Float[np.ndarray, " K"]
    """Images with a confidence below the threshold get the better prediction; ∞ selects all."""
    share: Float[np.ndarray, " K"]
    """Share of images with the better prediction."""
    accuracy: Float[np.ndarray, " K"]
    cost: Float[np.ndarray, " K"]
    """Mean cost per image, in the unit of the inputs."""


def cascade(
    confidence: Float[np.ndarray, " N"],
    cheap_correct: Bool[np.ndarray, " N"],
    better_correct: Bool[np.ndarray, " N"],
    cheap_cost: Float[np.ndarray, " N"],
    better_cost: Float[np.ndarray, " N"],
) -> Cascade:
    """All thresholds at once, in O(N log N): sort by confidence, then cumulative sums.

    cost = mean(c₁) + Σ_{below threshold} c₂ / N, the paper's t₁ + α t₂ where every image costs the same. Images of
    equal confidence are on the same side of the threshold, so K ≤ N + 1.   [NaViT, app. D]
    """
    count = len(confidence)
    order = np.argsort(confidence, kind="stable")
    threshold = np.append(confidence[order], np.inf)
    sent = np.flatnonzero(np.diff(threshold, prepend=-np.inf) > 0)  # possible numbers of images below a threshold
    gain = np.append(0, np.cumsum((better_correct.astype(int) - cheap_correct)[order]))
    extra = np.append(0.0, np.cumsum(better_cost[order]))
    return Cascade(
        threshold[sent],
        sent / count,
        (cheap_correct.sum() + gain[sent]) / count,
        (cheap_cost.sum() + extra[sent]) / count,
    )


def pareto_front(cost: Float[np.ndarray, " K"], accuracy: Float[np.ndarray, " K"]) -> Int[np.ndarray, " front"]:
    """Indices of the Pareto-optimal settings: no other has accuracy ≥ and cost ≤, one of them strictly.

    In order of cost; accuracy increases along the front. Of equal settings the first is kept.
    """
    order = np.lexsort((-accuracy, cost))
    best_before = np.maximum.accumulate(np.append(-np.inf, accuracy[order][:-1]))
    return order[accuracy[order] > best_before]
