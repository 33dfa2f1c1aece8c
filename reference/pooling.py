"""One vector per image."""

import numpy as np
from jaxtyping import Bool, Float

from .attention import attention
from .layers import layer_norm, mlp


def map_pool(params: dict, x: Float[np.ndarray, "T D"], mask: Bool[np.ndarray, "I T"]) -> Float[np.ndarray, "I D"]:
    """Masked attention pooling: a learned probe looks at the tokens of each slot; an empty slot gives zeros.

    a = attention(probe, x);  a + mlp(norm a)
    [NaViT, §2.1 "masked pooling"; form of the head: Scaling ViT (Zhai et al. 2021)]
    Choice: the attention is the encoder's own, QK-norm included; no residual from the probe.
    """
    probes = np.broadcast_to(params["probe"], (len(mask), x.shape[-1]))
    pooled = attention(params["attention"], probes, x, mask)
    pooled = pooled + mlp(params["mlp"], layer_norm(params["norm"], pooled))
    return np.where(mask.any(-1, keepdims=True), pooled, 0.0)
