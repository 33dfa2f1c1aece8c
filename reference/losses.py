"""Losses of a row as (sum, count) over real images. Rows hold different numbers of images, so a mean of means
would weigh images unequally: add sums and counts over the whole batch, then divide once."""

import numpy as np
from jaxtyping import Float, Int


def softmax_cross_entropy(
    logits: Float[np.ndarray, "I Y"], labels: Int[np.ndarray, " I"], smoothing: float
) -> tuple[float, int]:
    """Σ −⟨target, log softmax⟩ over slots with a label ≥ 0, and their number.

    target = (1 − ε) onehot + ε / Y
    """
    shifted = logits - logits.max(-1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    classes = logits.shape[-1]
    target = (1 - smoothing) * (labels[:, None] == np.arange(classes)) + smoothing / classes
    real = labels >= 0
    return float((-(target * log_probability).sum(-1))[real].sum()), int(real.sum())


def sigmoid_cross_entropy(logits: Float[np.ndarray, "I Y"], labels: Int[np.ndarray, " I"]) -> tuple[float, int]:
    """Σ over classes of −log σ(±logit), + at the label, over slots with a label ≥ 0, and their number.

    [NaViT, §3.1: classification is trained with sigmoid cross-entropy]
    """
    sign = np.where(labels[:, None] == np.arange(logits.shape[-1]), 1.0, -1.0)
    real = labels >= 0
    return float(np.logaddexp(0.0, -sign * logits).sum(-1)[real].sum()), int(real.sum())
