"""Made-up predictions of a classifier, for studies that only look at them."""

import numpy as np

from harness.evaluation.predictions import Predictions


def synthetic(correct, flops: float, confident=None) -> Predictions:
    """Predictions of ten classes, all labels 0: image i is right where `correct`, and sure of it where `confident`."""
    correct = np.asarray(correct, bool)
    count = len(correct)
    answer = np.where(correct, 0, 1)
    height = np.where(correct if confident is None else confident, 6.0, 1.0)
    logits = np.eye(10)[answer] * height[:, None]
    tokens, cost = np.full(count, 9), np.full(count, float(flops))
    return Predictions(np.arange(count), correct.astype(float), logits, tokens, cost, 1e-3 * flops, 0, 0, {})
