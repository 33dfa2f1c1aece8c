"""Contrastive losses of images and texts, on pooled vectors of unit length.   [NaViT, §2.3; ways to compute them:
navit_eqx/tasks/pair_losses.py]

A pair is positive because two keys are equal, never because both stand in the same place: towers are packed in other
orders, hold other numbers of slots, and the same text may stand twice. N slots of images and M slots of texts, empty
ones included, give vectors u_i and v_j, similarities s_ij = eᵗ ⟨u_i, v_j⟩ with the log scale t, and a bias b.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

LARGEST_SCALE = 100.0


class Slots(NamedTuple):
    """Slots of a tower in a batch. `ids` tell which image this is, or which image this caption was drawn for."""

    vectors: Float[np.ndarray, "N E"]
    keys: Int[np.ndarray, " N"]
    """Equal = a positive pair; −1 = empty."""
    ids: Int[np.ndarray, " N"]


class Gradients(NamedTuple):
    """Derivatives of the mean loss, Σ / count."""

    images: Float[np.ndarray, "N E"]
    texts: Float[np.ndarray, "M E"]
    log_scale: float
    bias: float


def pairs(
    image_keys: Int[np.ndarray, " N"], text_keys: Int[np.ndarray, " M"]
) -> tuple[Bool[np.ndarray, "N M"], Bool[np.ndarray, "N M"]]:
    """real: neither slot is empty; same: real, and keys are equal."""
    real = (image_keys[:, None] >= 0) & (text_keys >= 0)
    return real, real & (image_keys[:, None] == text_keys)


def weigh(images: Slots, texts: Slots, duplicates: str) -> tuple[Bool[np.ndarray, "N M"], Bool[np.ndarray, "N M"]]:
    """(pairs that count, positives among them).

    `duplicates` says what a caption is to an image that has its key, but that it was not drawn for: "positive";
    "ignore": it does not count; "negative", as where positives stand on a diagonal.
    """
    real, same = pairs(images.keys, texts.keys)
    own = same & (images.ids[:, None] == texts.ids)
    if duplicates == "positive":
        return real, same
    return {"ignore": real & (own | ~same), "negative": real}[duplicates], own


def similarities(images: Slots, texts: Slots, log_scale: float) -> Float[np.ndarray, "N M"]:
    """eᵗ ⟨u_i, v_j⟩, and 0 where a slot is empty, whatever it holds."""
    u, v = vectors(images), vectors(texts)
    return np.exp(log_scale) * u @ v.T


def vectors(slots: Slots) -> Float[np.ndarray, "N E"]:
    """Vectors, zero in empty slots."""
    return np.where(slots.keys[:, None] >= 0, slots.vectors, 0.0)


def sigmoid_loss(
    images: Slots, texts: Slots, log_scale: float, bias: float, duplicates: str = "positive"
) -> tuple[float, int]:
    """Σ −log σ(z x) over all pairs, z = 1 for positives and −1 for others, x = s + b; and the number of images.

    −log σ(x) = log(1 + eˣ) − x and −log σ(−x) = log(1 + eˣ).   [SigLIP: arXiv:2303.15343]
    """
    counts, positive = weigh(images, texts, duplicates)
    x = similarities(images, texts, log_scale) + bias
    return float((np.logaddexp(0.0, x) - positive * x)[counts].sum()), int((images.keys >= 0).sum())


def sigmoid_gradients(
    images: Slots, texts: Slots, log_scale: float, bias: float, duplicates: str = "positive"
) -> Gradients:
    """G = d (Σ / count) / d x = (σ(x) − positive) / count where a pair counts, else 0; then `chain`."""
    counts, positive = weigh(images, texts, duplicates)
    x = similarities(images, texts, log_scale) + bias
    g = np.where(counts, np.exp(-np.logaddexp(0.0, -x)) - positive, 0.0) / max((images.keys >= 0).sum(), 1)
    return chain(g, images, texts, log_scale)._replace(bias=float(g.sum()))


def softmax_loss(
    images: Slots, texts: Slots, log_scale: float, bias: float = 0.0, duplicates: str = "positive"
) -> tuple[float, int]:
    """n ½ [mean over images of −log P(own texts) + mean over texts of −log P(own images)], and n, the number of images
    with a positive. −log P is the mean over the positives of a slot: log Σ_j exp s_ij − Σ_positive s_ij / p_i.

    A slot without a positive is an answer to others, and asks nothing itself. The bias has no effect.
    [CLIP: arXiv:2103.00020, with one positive each; several: Choice]
    """
    counts, positive = weigh(images, texts, duplicates)
    s = similarities(images, texts, log_scale)
    asked = [loss_of_rows(*sides) for sides in ((s, counts, positive), (s.T, counts.T, positive.T))]
    n = len(asked[0])
    return n * sum(losses.mean() for losses in asked) / 2 if n else 0.0, n


def loss_of_rows(
    s: Float[np.ndarray, "N M"], counts: Bool[np.ndarray, "N M"], positive: Bool[np.ndarray, "N M"]
) -> Float[np.ndarray, " n"]:
    """−log P of each row that has a positive: log Σ exp s over pairs that count − mean of s over positives."""
    return np.array([np.logaddexp.reduce(x[c]) - x[p].mean() for x, c, p in zip(s, counts, positive) if p.any()])


def softmax_gradients(
    images: Slots, texts: Slots, log_scale: float, bias: float = 0.0, duplicates: str = "positive"
) -> Gradients:
    """G = ½ [(P_row − positive / p_i) / n_images + (P_column − positive / p_j) / n_texts], P a softmax over the pairs
    that count, in rows and columns with a positive; then `chain`."""
    counts, positive = weigh(images, texts, duplicates)
    s = similarities(images, texts, log_scale)
    g = (slope_of_rows(s, counts, positive) + slope_of_rows(s.T, counts.T, positive.T).T) / 2
    return chain(g, images, texts, log_scale)


def slope_of_rows(
    s: Float[np.ndarray, "N M"], counts: Bool[np.ndarray, "N M"], positive: Bool[np.ndarray, "N M"]
) -> Float[np.ndarray, "N M"]:
    """d (mean of `loss_of_rows`) / d s."""
    g = np.zeros(s.shape)
    asking = np.flatnonzero(positive.any(1))
    for i in asking:
        x = np.where(counts[i], s[i], -np.inf)
        g[i] = (np.exp(x - np.logaddexp.reduce(x)) - positive[i] / positive[i].sum()) / len(asking)
    return g


def chain(g: Float[np.ndarray, "N M"], images: Slots, texts: Slots, log_scale: float) -> Gradients:
    """From G = dL / ds: dU = eᵗ G V, dV = eᵗ Gᵀ U, dt = Σ G s."""
    u, v = vectors(images), vectors(texts)
    scale = np.exp(log_scale)
    return Gradients(scale * g @ v, scale * g.T @ u, float((g * similarities(images, texts, log_scale)).sum()), 0.0)


# start and temperature ------------------------------------------------------------------------------


def bias_init(pairs: int) -> float:
    """−log(N − 1): with all similarities 0 the slope of the bias is N σ(b) − 1, which is zero there.   [Choice]"""
    return -float(np.log(max(pairs - 1, 1)))


def start_loss(kind: str, pairs: int) -> float:
    """The mean loss of N pairs without duplicates while all similarities are 0: log N for softmax; for sigmoid with
    b = `bias_init` −log σ(b) − (N − 1) log σ(−b), about log N + 1. A run that stays there learns nothing."""
    bias = bias_init(pairs)
    start = {"softmax": np.log(pairs), "sigmoid": np.logaddexp(0, -bias) + (pairs - 1) * np.logaddexp(0, bias)}
    return float(start[kind])


def clip_log_scale(log_scale: float) -> float:
    """min(t, log 100), after each update. Within the loss, the gradient above the limit would be zero for ever.

    [CLIP: arXiv:2103.00020]
    """
    return min(log_scale, float(np.log(LARGEST_SCALE)))
