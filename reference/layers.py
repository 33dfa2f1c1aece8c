"""The small layers. Each acts on the last axis; `params` holds arrays under the names used here."""

import numpy as np
from jaxtyping import Bool, Float

EPSILON = 1e-6  # of layer norm, as in big_vision


def linear(params: dict, x: Float[np.ndarray, "T In"]) -> Float[np.ndarray, "T Out"]:
    """x w + b"""
    return x @ params["w"] + params["b"]


def layer_norm(params: dict, x: Float[np.ndarray, "*T D"]) -> Float[np.ndarray, "*T D"]:
    """scale · (x − mean) / √(variance + ε), over the last axis.

    Choice: centred, with a scale and no bias ("omission of biases", [NaViT, §2.1]).
    """
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return params["scale"] * centred / np.sqrt(variance + EPSILON)


def gelu(x: Float[np.ndarray, "*T D"]) -> Float[np.ndarray, "*T D"]:
    """x Φ(x), with the tanh form of Φ.   Choice: tanh, as in big_vision."""
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def mlp(params: dict, x: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T D"]:
    """gelu(x w₁ + b₁) w₂ + b₂   [ViT, §3.1]"""
    return linear(params["shrink"], gelu(linear(params["grow"], x)))


def masked_softmax(
    logits: Float[np.ndarray, "*n S"], mask: Bool[np.ndarray, "*#n S"] | None
) -> Float[np.ndarray, "*n S"]:
    """Softmax over the keys that the mask allows; where it allows none, zeros.   None allows all.

    Choice: zeros rather than a uniform average, so that padding and empty slots carry nothing.
    """
    allowed = np.ones_like(logits, bool) if mask is None else np.broadcast_to(mask, logits.shape)
    highest = np.where(allowed, logits, -np.inf).max(-1, keepdims=True, initial=-np.inf)
    shifted = np.where(allowed, logits - np.where(np.isfinite(highest), highest, 0.0), -np.inf)
    weights = np.exp(shifted)
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total > 0, total, 1.0)
