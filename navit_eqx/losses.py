"""Losses as (sum, count) over real images: add over the whole batch, then divide once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def targets(
    labels: Int[Array, "*B I"],
    partners: Int[Array, "*B I"],
    weights: Float[Array, "*B I"],
    classes: int,
    smoothing: float,
) -> Float[Array, "*B I Y"]:
    """(1 − ε) [(1 − w) onehot(label) + w onehot(partner)] + ε / Y: w of the picture is of the partner's class."""
    own, other = (jax.nn.one_hot(y, classes, dtype=weights.dtype) for y in (labels, partners))
    mixed = own + weights[..., None] * (other - own)
    return (1 - smoothing) * mixed + smoothing / classes


def softmax_cross_entropy(
    logits: Float[Array, "*B I Y"], target: Float[Array, "*B I Y"], labels: Int[Array, "*B I"]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Σ −⟨target, log softmax⟩ over slots with a label ≥ 0, and their number."""
    return _over_real(-(target.astype(logits.dtype) * jax.nn.log_softmax(logits)).sum(-1), labels)


def sigmoid_cross_entropy(
    logits: Float[Array, "*B I Y"], target: Float[Array, "*B I Y"], labels: Int[Array, "*B I"]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Σ over classes of log(1 + eˣ) − t x, over slots with a label ≥ 0, and their number."""
    return _over_real((jax.nn.softplus(logits) - target.astype(logits.dtype) * logits).sum(-1), labels)


def kl_divergence(
    logits: Float[Array, "*B I Y"], teacher: Float[Array, "*B I Y"], labels: Int[Array, "*B I"]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Σ KL(softmax(teacher) ‖ softmax(logits)) over slots with a label ≥ 0, and their number."""
    log_p, log_q = jax.nn.log_softmax(teacher), jax.nn.log_softmax(logits)
    return _over_real((jnp.exp(log_p) * (log_p - log_q)).sum(-1), labels)


def sigmoid_kl_divergence(
    logits: Float[Array, "*B I Y"], teacher: Float[Array, "*B I Y"], labels: Int[Array, "*B I"]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Σ over classes of KL(σ(teacher) ‖ σ(logits)) over slots with a label ≥ 0, and their number."""
    yes = jax.nn.log_sigmoid(teacher) - jax.nn.log_sigmoid(logits)
    no = jax.nn.log_sigmoid(-teacher) - jax.nn.log_sigmoid(-logits)
    return _over_real((jax.nn.sigmoid(teacher) * yes + jax.nn.sigmoid(-teacher) * no).sum(-1), labels)


def _over_real(loss: Float[Array, "*B I"], labels: Int[Array, "*B I"]) -> tuple[Float[Array, ""], Int[Array, ""]]:
    real = labels >= 0
    return jnp.where(real, loss, 0).sum(), real.sum(dtype=jnp.int32)


def correct(logits: Float[Array, "*B I Y"], labels: Int[Array, "*B I"]) -> Int[Array, ""]:
    """How many real images have their label at the top."""
    return ((logits.argmax(-1) == labels) & (labels >= 0)).sum(dtype=jnp.int32)
