"""Metrics of predictions: one class or a set of classes per image."""

import numpy as np
from jaxtyping import Bool, Float, Int


def correct(scores: Float[np.ndarray, "N Y"], labels: Int[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Whether the class with the highest score is the label."""
    return scores.argmax(-1) == labels


def in_top(scores: Float[np.ndarray, "N Y"], labels: Int[np.ndarray, " N"], k: int) -> Bool[np.ndarray, " N"]:
    """Whether fewer than k classes have a higher score than the label."""
    own = np.take_along_axis(scores, labels[:, None], axis=-1)
    return (scores > own).sum(-1) < k


def precision_at_1(scores: Float[np.ndarray, "N Y"], truth: Bool[np.ndarray, "N Y"]) -> Bool[np.ndarray, " N"]:
    """Whether the class with the highest score is in the label set of the image.   [NaViT, §3.1: JFT precision@1]"""
    return np.take_along_axis(truth, scores.argmax(-1)[:, None], axis=-1)[:, 0]


def average_precision(scores: Float[np.ndarray, " N"], truth: Bool[np.ndarray, " N"]) -> float:
    """Σ_n (R_n − R_{n−1}) P_n over the thresholds, from high to low, with recall R and precision P.

    Images of equal score share one threshold. NaN for a class without images.
    """
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last_of_equals = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(truth[order])[last_of_equals]
    retrieved = np.flatnonzero(last_of_equals) + 1
    return float((np.diff(hits, prepend=0) * hits / retrieved).sum() / truth.sum())


def mean_average_precision(scores: Float[np.ndarray, "N Y"], truth: Bool[np.ndarray, "N Y"]) -> float:
    """Mean of `average_precision` over the classes with images; NaN without any."""
    found = [average_precision(s, t) for s, t in zip(scores.T, truth.T) if t.any()]
    return float(np.mean(found)) if found else float("nan")


def error_consistency(one: Bool[np.ndarray, " N"], other: Bool[np.ndarray, " N"]) -> float:
    """Cohen's κ of two models by where they err: (c − e) / (1 − e), with the share c of images that both get right or
    both get wrong, and its expectation e = p q + (1 − p)(1 − q) for independent errors at their accuracies p and q.

    1: the same images; 0: as by chance; NaN where e = 1, since models that are always right, or wrong, cannot differ.
    [Geirhos et al., arXiv:2006.16736]
    """
    p, q = one.mean(), other.mean()
    expected = p * q + (1 - p) * (1 - q)
    return float(((one == other).mean() - expected) / (1 - expected)) if expected < 1 else float("nan")


def balanced_accuracy(predicted: Int[np.ndarray, " N"], labels: Int[np.ndarray, " N"]) -> float:
    """Mean over the classes with images of the share of their images that are right: 1 / classes for a constant."""
    return float(np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)]))
