"""Multi-head attention.   q: T H K · k, v: S H K · logits: H T S · out: T D"""

import numpy as np
from jaxtyping import Bool, Float

from .layers import layer_norm, masked_softmax


def attention(
    params: dict,
    x: Float[np.ndarray, "T D"],
    context: Float[np.ndarray, "S D"],
    mask: Bool[np.ndarray, "T S"] | None,
) -> Float[np.ndarray, "T D"]:
    """Σ_heads softmax(norm(q) norm(k)ᵀ / √K) v · o: tokens of `x` look at those of `context` that the mask allows.

    Queries and keys are normalised over the head, with one scale shared by all heads.
    [ViT, app. A; QK-norm and no biases: NaViT, §2.1, after ViT-22B]
    Choice: layer norm, followed by the usual 1/√K (the paper only names the technique).
    """
    q = layer_norm(params["q_norm"], np.einsum("td,dhk->thk", x, params["q"]))
    k = layer_norm(params["k_norm"], np.einsum("sd,dhk->shk", context, params["k"]))
    v = np.einsum("sd,dhk->shk", context, params["v"])
    logits = np.einsum("thk,shk->hts", q, k) / np.sqrt(q.shape[-1])
    mixed = np.einsum("hts,shk->thk", masked_softmax(logits, mask), v)
    return np.einsum("thk,hkd->td", mixed, params["o"])
