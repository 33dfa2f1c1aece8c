"""Multi-head attention.   q: T H K · k, v: S H K · logits: H T S · out: T D"""

import numpy as np
from jaxtyping import Bool, Float

from .layers import masked_softmax, norm
from .rope import apply_rotary


def attention(
    params: dict,
    x: Float[np.ndarray, "T D"],
    context: Float[np.ndarray, "S D"],
    mask: Bool[np.ndarray, "T S"] | None,
    angles: Float[np.ndarray, "T half"] | None = None,
) -> Float[np.ndarray, "T D"]:
    """Σ_heads softmax(norm(q) norm(k)ᵀ · scale) v · o: tokens of `x` attend to the unmasked tokens of `context`.

    Queries and keys are normalized over the head size K, with one scale shared by all heads, then rotated by `angles`
    (self-attention only; None rotates nothing). A norm of all heads together comes after the rotation (`directions`).
    [ViT, app. A; QK-norm and no biases: NaViT, §2.1, after ViT-22B]
    Choice: layer norm, followed by the standard 1/√K (the paper names QK-norm without its details).
    """
    weights = attention_weights(params, x, context, mask, angles)
    mixed = np.einsum("hts,shk->thk", weights, project(params, "v", context))
    y = np.einsum("thk,hkd->td", mixed, params["o"])
    return y if params["o_bias"] is None else y + params["o_bias"]


def attention_weights(
    params: dict,
    x: Float[np.ndarray, "T D"],
    context: Float[np.ndarray, "S D"],
    mask: Bool[np.ndarray, "T S"] | None,
    angles: Float[np.ndarray, "T half"] | None = None,
) -> Float[np.ndarray, "H T S"]:
    """softmax(norm(q) norm(k)ᵀ · scale): how much of each token of `context` a token of `x` reads, by each head."""
    q, k = directions(params, "q", x, angles), directions(params, "k", context, angles)
    return masked_softmax(np.einsum("thk,shk->hts", q, k) * params["logit_scale"], mask)


def directions(
    params: dict, name: str, x: Float[np.ndarray, "T D"], angles: Float[np.ndarray, "T half"] | None
) -> Float[np.ndarray, "T H K"]:
    """Queries or keys ("q", "k"), normalized in each head and rotated; or rotated, then normalized over all heads
    together, H K as one axis   [UniViTAR, arXiv:2504.01792]"""
    y, scale = project(params, name, x), params[f"{name}_norm"]
    whole = scale is not None and scale["kind"] == "WholeRmsNorm"
    y = y if whole else norm(scale, y)
    y = y if angles is None else apply_rotary(y, angles)
    return norm(scale, y.reshape(len(y), -1)).reshape(y.shape) if whole else y


def project(params: dict, name: str, x: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T H K"]:
    """Queries, keys or values ("q", "k", "v") of all heads, before their norm."""
    y = np.einsum("td,dhk->thk", x, params[name])
    return y if params[f"{name}_bias"] is None else y + params[f"{name}_bias"]
