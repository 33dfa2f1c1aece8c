"""Small layers over the last axis. `params` maps the names used here to arrays."""

import math

import numpy as np
from jaxtyping import Bool, Float

from .activations import quick_gelu, silu

EPSILON = 1e-6  # of norms, as in big_vision


def linear(params: dict, x: Float[np.ndarray, "T In"]) -> Float[np.ndarray, "T Out"]:
    """x w + b"""
    return x @ params["w"] + params["b"]


def layer_norm(params: dict, x: Float[np.ndarray, "*T D"]) -> Float[np.ndarray, "*T D"]:
    """rms_norm(x − mean), over the last axis.

    Choice: centered, with a scale and no bias ("omission of biases", [NaViT, §2.1]).
    """
    return rms_norm(params, x - x.mean(-1, keepdims=True))


def rms_norm(params: dict, x: Float[np.ndarray, "*T D"]) -> Float[np.ndarray, "*T D"]:
    """scale · x / √(mean x² + ε) + bias, over the last axis.   [Zhang & Sennrich, arXiv:1910.07467]"""
    y = params["scale"] * x / np.sqrt((x**2).mean(-1, keepdims=True) + params["eps"])
    return y if params["bias"] is None else y + params["bias"]


def norm(params: dict | None, x: Float[np.ndarray, "*T D"]) -> Float[np.ndarray, "*T D"]:
    """The norm named by `params["kind"]`; the identity where `params` is None."""
    return x if params is None else NORMS[params["kind"]](params, x)


NORMS = {"LayerNorm": layer_norm, "RmsNorm": rms_norm, "WholeRmsNorm": rms_norm}


def gelu_tanh(x: Float[np.ndarray, "*T D"]) -> Float[np.ndarray, "*T D"]:
    """x Φ(x), with the tanh approximation of Φ.   Choice of default: tanh, as in big_vision."""
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def gelu_exact(x: Float[np.ndarray, "*T D"]) -> Float[np.ndarray, "*T D"]:
    """x Φ(x), with Φ the standard normal CDF.   [Hendrycks & Gimpel, arXiv:1606.08415]"""
    return 0.5 * x * (1.0 + np.vectorize(math.erf, otypes=[float])(x / np.sqrt(2.0)))


ACTIVATIONS = {"gelu_tanh": gelu_tanh, "gelu": gelu_exact, "quick_gelu": quick_gelu, "silu": silu}


def mlp(params: dict, x: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T D"]:
    """gelu(x w₁ + b₁) w₂ + b₂, or another activation   [ViT, §3.1]"""
    return linear(params["shrink"], ACTIVATIONS[params["activation"]](linear(params["grow"], x)))


def masked_softmax(
    logits: Float[np.ndarray, "*n S"], mask: Bool[np.ndarray, "*#n S"] | None
) -> Float[np.ndarray, "*n S"]:
    """Softmax over the unmasked keys; zeros where every key is masked. A mask of None allows all keys.

    Choice: zeros rather than uniform weights, so that the outputs of padding and empty slots are zero.
    """
    allowed = np.ones_like(logits, bool) if mask is None else np.broadcast_to(mask, logits.shape)
    highest = np.where(allowed, logits, -np.inf).max(-1, keepdims=True, initial=-np.inf)
    shifted = np.where(allowed, logits - np.where(np.isfinite(highest), highest, 0.0), -np.inf)
    weights = np.exp(shifted)
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total > 0, total, 1.0)
