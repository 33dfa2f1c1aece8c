"""Calibration: is a model with confidence 80 % correct on 80 % of the images?   [NaViT, app. E]

Works on saved logits. `softmax` and `sigmoid` map logits to probabilities: use the one the model was trained with.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

BINS = 30  # [NaViT, app. E]
COLDEST, HOTTEST = 1e-2, 1e2  # range of temperatures that is searched

Link = Callable[[np.ndarray], np.ndarray]


def softmax(logits: Float[np.ndarray, "*N Y"]) -> Float[np.ndarray, "*N Y"]:
    """exp(zᵧ) / Σ exp(z): exactly one class is correct."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def sigmoid(logits: Float[np.ndarray, "*N Y"]) -> Float[np.ndarray, "*N Y"]:
    """1 / (1 + exp(−zᵧ)): an independent decision per class."""
    return np.exp(-np.logaddexp(0.0, -logits))


class Reliability(NamedTuple):
    """Reliability diagram: number of images, mean confidence and accuracy per bin; 0 in an empty bin."""

    count: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]


def reliability(confidence: Float[np.ndarray, " N"], correct: Bool[np.ndarray, " N"], bins: int = BINS) -> Reliability:
    """Mean confidence and accuracy of the images in bin b = ⌊bins · confidence⌋.

    Choice: bins of equal width (the paper does not specify them); confidence 1 is in the last bin.
    """
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    sums = [np.bincount(bin_of, weights=value, minlength=bins) for value in (confidence, correct)]
    return Reliability(count, *(total / np.maximum(count, 1) for total in sums))


def expected_calibration_error(
    confidence: Float[np.ndarray, " N"], correct: Bool[np.ndarray, " N"], bins: int = BINS
) -> float:
    """ECE = Σ_b n_b / N · |accuracy_b − confidence_b|, the l1 form.   [NaViT, app. E, table 4]"""
    count, mean_confidence, accuracy = reliability(confidence, correct, bins)
    return float((count * np.abs(accuracy - mean_confidence)).sum() / count.sum())


def sample_calibrated_error(
    rng: np.random.Generator, confidence: Float[np.ndarray, " N"], bins: int = BINS, draws: int = 100
) -> float:
    """Mean ECE of a perfectly calibrated model with these confidences, over simulated outcomes.

    It is above 0, because the accuracy of a bin with few images varies by chance. Compare an ECE with it, not with 0.
    """
    uniform = rng.random((draws, len(confidence)))
    return float(np.mean([expected_calibration_error(confidence, row < confidence, bins) for row in uniform]))


def fit_temperature(
    logits: Float[np.ndarray, "N Y"], truth: Bool[np.ndarray, "N Y"], probabilities: Link = softmax
) -> float:
    """T > 0 that minimizes the cross-entropy of probabilities(logits / T); `truth` is True at the classes of an image.

    The loss is convex in 1 / T, with the same derivative for softmax and sigmoid: Σ (p − truth) · z. Its zero is found
    by bisection on log T. Choice: T in [1/100, 100]; where the minimum is outside, as for a model that is always
    correct, the nearer end is returned. Raises ValueError without images.
    """
    if not len(truth):
        raise ValueError("a temperature cannot be fitted without images")
    z = logits.astype(np.float64)
    excess = -truth.astype(np.float64)

    def overconfident(temperature: float) -> bool:
        return float(((probabilities(z / temperature) + excess) * z).sum()) > 0

    low, high = np.log(COLDEST), np.log(HOTTEST)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if overconfident(float(np.exp(middle))) else (low, middle)
    return float(np.exp((low + high) / 2))
