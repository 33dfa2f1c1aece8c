"""Losses of a row as (sum, count) over real images. Rows hold different numbers of images, so a mean of means
would weigh images unequally: add sums and counts over the whole batch, then divide once."""

import numpy as np
from jaxtyping import Float, Int


def targets(
    labels: Int[np.ndarray, " I"],
    partners: Int[np.ndarray, " I"],
    weights: Float[np.ndarray, " I"],
    classes: int,
    smoothing: float,
) -> Float[np.ndarray, "I Y"]:
    """(1 − ε) [(1 − w) onehot(label) + w onehot(partner)] + ε / Y: w of the picture is of the partner's class.

    [mixup: arXiv:1710.09412; label smoothing: arXiv:1512.00567]
    """
    own, other = (np.equal.outer(y, np.arange(classes)).astype(float) for y in (labels, partners))
    mixed = (1 - weights[:, None]) * own + weights[:, None] * other
    return (1 - smoothing) * mixed + smoothing / classes


def softmax_cross_entropy(
    logits: Float[np.ndarray, "I Y"], target: Float[np.ndarray, "I Y"], labels: Int[np.ndarray, " I"]
) -> tuple[float, int]:
    """Σ −⟨target, log softmax⟩ over slots with a label ≥ 0, and their number."""
    shifted = logits - logits.max(-1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    real = labels >= 0
    return float((-(target * log_probability).sum(-1))[real].sum()), int(real.sum())


def sigmoid_cross_entropy(
    logits: Float[np.ndarray, "I Y"], target: Float[np.ndarray, "I Y"], labels: Int[np.ndarray, " I"]
) -> tuple[float, int]:
    """Σ over classes of −t log σ(x) − (1 − t) log σ(−x) = log(1 + eˣ) − t x, over slots with a label ≥ 0.

    [NaViT, §3.1: classification is trained with sigmoid cross-entropy]
    """
    real = labels >= 0
    return float((np.logaddexp(0.0, logits) - target * logits).sum(-1)[real].sum()), int(real.sum())


def kl_divergence(
    logits: Float[np.ndarray, "I Y"], teacher: Float[np.ndarray, "I Y"], labels: Int[np.ndarray, " I"]
) -> tuple[float, int]:
    """Σ KL(p ‖ q) = Σ p (log p − log q), p = softmax(teacher), q = softmax(logits), over slots with a label ≥ 0.

    The labels say which slots are real and nothing else.   [FlexiViT, distillation; temperature 1]
    """
    log_p, log_q = (x - np.logaddexp.reduce(x, -1, keepdims=True) for x in (teacher, logits))
    real = labels >= 0
    return float((np.exp(log_p) * (log_p - log_q)).sum(-1)[real].sum()), int(real.sum())


def sigmoid_kl_divergence(
    logits: Float[np.ndarray, "I Y"], teacher: Float[np.ndarray, "I Y"], labels: Int[np.ndarray, " I"]
) -> tuple[float, int]:
    """Σ over classes of KL(p ‖ q) = p (log p − log q) + (1 − p) (log (1 − p) − log (1 − q)), p = σ(teacher),
    q = σ(logits), over slots with a label ≥ 0.

    Choice: the counterpart for models of one decision per class; the paper distils by softmax.
    """
    yes, no = (np.logaddexp(0, -x) - np.logaddexp(0, -t) for x, t in ((logits, teacher), (-logits, -teacher)))
    p = np.exp(-np.logaddexp(0, -teacher))
    real = labels >= 0
    return float((p * yes + (1 - p) * no).sum(-1)[real].sum()), int(real.sum())
