"""Pooling: one vector per image slot, from the tokens of the slot; zeros for an empty slot."""

import numpy as np
from jaxtyping import Bool, Float

from .attention import attention
from .gated import feed_forward
from .layers import norm


def map_pool(
    params: dict, x: Float[np.ndarray, "T D"], mask: Bool[np.ndarray, "I T"], registers: Float[np.ndarray, "I R D"]
) -> Float[np.ndarray, "I D"]:
    """Masked attention pooling (MAP): a learned query, the probe, attends to the tokens of each slot.

    a = attention(probe, x);  a + mlp(norm a)
    [NaViT, §2.1 "masked pooling"; form of the head: Scaling ViT (Zhai et al. 2021)]
    Choice: the same attention as in the encoder, QK-norm included; no residual from the probe.
    """
    probes = np.broadcast_to(params["probe"], (len(mask), x.shape[-1]))
    pooled = attention(params["attention"], probes, x, mask)
    return blank(pooled + feed_forward(params["mlp"], norm(params["norm"], pooled)), mask)


def residual_map_pool(
    params: dict, x: Float[np.ndarray, "T D"], mask: Bool[np.ndarray, "I T"], registers: Float[np.ndarray, "I R D"]
) -> Float[np.ndarray, "I D"]:
    """probe + attention(probe, x), without an MLP, as in several public implementations."""
    probes = np.broadcast_to(params["probe"], (len(mask), x.shape[-1]))
    return blank(probes + attention(params["attention"], probes, x, mask), mask)


def mean_pool(
    params: dict, x: Float[np.ndarray, "T D"], mask: Bool[np.ndarray, "I T"], registers: Float[np.ndarray, "I R D"]
) -> Float[np.ndarray, "I D"]:
    """Mean over the tokens of each slot."""
    return mask.astype(x.dtype) @ x / np.maximum(mask.sum(-1, keepdims=True), 1)


def normed_mean_pool(
    params: dict, x: Float[np.ndarray, "T D"], mask: Bool[np.ndarray, "I T"], registers: Float[np.ndarray, "I R D"]
) -> Float[np.ndarray, "I D"]:
    """norm(mean over the tokens of each slot): the norm that others have before it.   [timm, `fc_norm`]"""
    return blank(norm(params["norm"], mean_pool(params, x, mask, registers)), mask)


def max_pool(
    params: dict, x: Float[np.ndarray, "T D"], mask: Bool[np.ndarray, "I T"], registers: Float[np.ndarray, "I R D"]
) -> Float[np.ndarray, "I D"]:
    """Maximum over the tokens of each slot, per channel."""
    return blank(np.where(mask[..., None], x, -np.inf).max(1), mask)


def token_pool(
    params: dict, x: Float[np.ndarray, "T D"], mask: Bool[np.ndarray, "I T"], registers: Float[np.ndarray, "I R D"]
) -> Float[np.ndarray, "I D"]:
    """The first register of each slot, used as a class token.   [ViT, §3.1]"""
    return blank(registers[:, 0], mask)


def blank(pooled: Float[np.ndarray, "I D"], mask: Bool[np.ndarray, "I T"]) -> Float[np.ndarray, "I D"]:
    """`pooled`, with zeros for slots without tokens."""
    return np.where(mask.any(-1, keepdims=True), pooled, 0.0)


POOLS = {
    "MapPool": map_pool,
    "ResidualMapPool": residual_map_pool,
    "MeanPool": mean_pool,
    "NormedMeanPool": normed_mean_pool,
    "MaxPool": max_pool,
    "TokenPool": token_pool,
}


def pool(
    params: dict, x: Float[np.ndarray, "T D"], mask: Bool[np.ndarray, "I T"], registers: Float[np.ndarray, "I R D"]
) -> Float[np.ndarray, "I D"]:
    """One vector per slot, by the pool named in `params["kind"]`."""
    return POOLS[params["kind"]](params, x, mask, registers)
