"""Losses as (sum, count) over real images: add over the whole batch, then divide once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def softmax_cross_entropy(
    logits: Float[Array, "*B I Y"], labels: Int[Array, "*B I"], smoothing: float
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Σ −⟨target, log softmax⟩ over slots with a label ≥ 0, and their number.

    target = (1 − ε) onehot + ε / Y
    """
    classes = logits.shape[-1]
    onehot = jax.nn.one_hot(labels, classes, dtype=logits.dtype)
    target = (1 - smoothing) * onehot + smoothing / classes
    return _over_real(-(target * jax.nn.log_softmax(logits)).sum(-1), labels)


def sigmoid_cross_entropy(
    logits: Float[Array, "*B I Y"], labels: Int[Array, "*B I"]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Σ over classes of −log σ(±logit), + at the label, over slots with a label ≥ 0, and their number."""
    sign = 2 * jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype) - 1
    return _over_real(-jax.nn.log_sigmoid(sign * logits).sum(-1), labels)


def _over_real(loss: Float[Array, "*B I"], labels: Int[Array, "*B I"]) -> tuple[Float[Array, ""], Int[Array, ""]]:
    real = labels >= 0
    return jnp.where(real, loss, 0).sum(), real.sum(dtype=jnp.int32)


def correct(logits: Float[Array, "*B I Y"], labels: Int[Array, "*B I"]) -> Int[Array, ""]:
    """How many real images have their label at the top."""
    return ((logits.argmax(-1) == labels) & (labels >= 0)).sum(dtype=jnp.int32)
