"""Cascades: a cheap look at every image, and a better one where the cheap look is not sure.   [NaViT, app. D]

Works on saved predictions: which images each look gets right, how sure the cheap one is, and what a look costs.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Cascade(NamedTuple):
    """Every different cascade of two looks, from "the cheap look alone" to "every image is looked at twice"."""

    threshold: Float[np.ndarray, " K"]
    """An image goes on where its confidence is below this; ∞ sends all."""
    share: Float[np.ndarray, " K"]
    """Of images that go on."""
    accuracy: Float[np.ndarray, " K"]
    cost: Float[np.ndarray, " K"]
    """Mean per image."""


def cascade(
    confidence: Float[np.ndarray, " N"],
    cheap_correct: Bool[np.ndarray, " N"],
    better_correct: Bool[np.ndarray, " N"],
    cheap_cost: Float[np.ndarray, " N"],
    better_cost: Float[np.ndarray, " N"],
) -> Cascade:
    """All thresholds at once, in O(N log N): sort by confidence, then running sums.

    An image that goes on is paid for twice: cost = mean(c₁) + Σ_{sent} c₂ / N, the paper's t₁ + α t₂ where every image
    costs the same. Images of equal confidence go on together, so K ≤ N + 1.   [NaViT, app. D]
    """
    count = len(confidence)
    order = np.argsort(confidence, kind="stable")
    threshold = np.append(confidence[order], np.inf)
    sent = np.flatnonzero(np.diff(threshold, prepend=-np.inf) > 0)  # numbers of images that can go on
    gain = np.append(0, np.cumsum((better_correct.astype(int) - cheap_correct)[order]))
    extra = np.append(0.0, np.cumsum(better_cost[order]))
    return Cascade(
        threshold[sent],
        sent / count,
        (cheap_correct.sum() + gain[sent]) / count,
        (cheap_cost.sum() + extra[sent]) / count,
    )


def pareto_front(cost: Float[np.ndarray, " K"], accuracy: Float[np.ndarray, " K"]) -> Int[np.ndarray, " front"]:
    """Which settings no other beats: none is at least as good and at most as dear, and better in one of the two.

    In order of cost; accuracy rises along the front. Of equal settings the first stays.
    """
    order = np.lexsort((-accuracy, cost))
    best_before = np.maximum.accumulate(np.append(-np.inf, accuracy[order][:-1]))
    return order[accuracy[order] > best_before]
