"""Pre-norm transformer blocks. Their parameters are stacked: every leaf of `blocks` has a leading axis L."""

import numpy as np
from jaxtyping import Bool, Float

from .attention import attention
from .layers import layer_norm, mlp


def block(params: dict, x: Float[np.ndarray, "T D"], mask: Bool[np.ndarray, "T T"] | None) -> Float[np.ndarray, "T D"]:
    """x + attention(norm x), then x + mlp(norm x).   [ViT, eq. 2-3]"""
    y = layer_norm(params["attention_norm"], x)
    x = x + attention(params["attention"], y, y, mask)
    return x + mlp(params["mlp"], layer_norm(params["mlp_norm"], x))


def encoder(
    params: dict, x: Float[np.ndarray, "T D"], mask: Bool[np.ndarray, "T T"] | None
) -> Float[np.ndarray, "T D"]:
    """All blocks in turn and a last norm.   [ViT, eq. 2-4]"""
    for layer in range(len(params["blocks"]["attention_norm"]["scale"])):
        x = block(take(params["blocks"], layer), x, mask)
    return layer_norm(params["norm"], x)


def take(params: dict, layer: int) -> dict:
    """The parameters of one block out of the stack."""
    return {k: take(v, layer) if isinstance(v, dict) else v[layer] for k, v in params.items()}
