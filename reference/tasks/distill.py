"""Distillation: targets are the logits of a teacher, not labels.   [FlexiViT, distillation]   params: head, link"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .classify import predict as predict


class Targets(NamedTuple):
    """Logits of the teacher for the image in each slot."""

    teacher_logits: Float[np.ndarray, "I Y"]


def loss(
    params: dict, features: Float[np.ndarray, "I D"], targets: Targets, used: Bool[np.ndarray, " I"]
) -> tuple[float, int]:
    """Σ KL divergence from the teacher over the images of a row, and their number."""
    return DIVERGENCES[params["link"]](predict(params, features), targets.teacher_logits, used)


def kl_divergence(
    logits: Float[np.ndarray, "I Y"], teacher_logits: Float[np.ndarray, "I Y"], real: Bool[np.ndarray, " I"]
) -> tuple[float, int]:
    """Σ KL(p ‖ q) = Σ p (log p − log q), p = softmax(teacher), q = softmax(logits), over real slots, and their number.

    [FlexiViT, distillation; temperature 1]
    """
    log_p, log_q = (x - np.logaddexp.reduce(x, -1, keepdims=True) for x in (teacher_logits, logits))
    return float((np.exp(log_p) * (log_p - log_q)).sum(-1)[real].sum()), int(real.sum())


def sigmoid_kl_divergence(
    logits: Float[np.ndarray, "I Y"], teacher_logits: Float[np.ndarray, "I Y"], real: Bool[np.ndarray, " I"]
) -> tuple[float, int]:
    """Σ over classes of KL(p ‖ q) = p (log p − log q) + (1 − p) (log (1 − p) − log (1 − q)), p = σ(teacher),
    q = σ(logits), over real slots, and their number.

    Choice: the counterpart for models with independent classes; the paper distills by softmax.
    """
    t = teacher_logits
    yes, no = (np.logaddexp(0, -x) - np.logaddexp(0, -y) for x, y in ((logits, t), (-logits, -t)))
    p = np.exp(-np.logaddexp(0, -t))
    return float((p * yes + (1 - p) * no).sum(-1)[real].sum()), int(real.sum())


DIVERGENCES = {"softmax": kl_divergence, "sigmoid": sigmoid_kl_divergence}
