"""Pre-norm transformer blocks. Their parameters are stacked: every leaf of `blocks` has a leading axis L."""

import numpy as np
from jaxtyping import Bool, Float, Int

from .attention import attention
from .gated import feed_forward
from .layers import norm
from .local import Mask, mask_of


def block(
    params: dict,
    x: Float[np.ndarray, "T D"],
    mask: Bool[np.ndarray, "T T"] | None,
    angles: Float[np.ndarray, "T half"] | None = None,
    gate: Float[np.ndarray, " T"] | None = None,
) -> Float[np.ndarray, "T D"]:
    """x + attention(norm x), then x + mlp(norm x).   [ViT, eq. 2-3]

    Each residual is multiplied by LayerScale (a gain per channel; arXiv:2103.17239) and by `gate` (stochastic depth,
    `sample_gates`) before it is added; None stands for 1.
    """
    y = norm(params["attention_norm"], x)
    x = add(x, attention(params["attention"], y, y, mask, angles), params["attention_scale"], gate)
    return add(x, feed_forward(params["mlp"], norm(params["mlp_norm"], x)), params["mlp_scale"], gate)


def add(
    x: Float[np.ndarray, "T D"],
    residual: Float[np.ndarray, "T D"],
    scale: Float[np.ndarray, " D"] | None,
    gate: Float[np.ndarray, " T"] | None,
) -> Float[np.ndarray, "T D"]:
    """x + gate · scale · residual; None is 1."""
    residual = residual if scale is None else scale * residual
    return x + (residual if gate is None else gate[:, None] * residual)


def encoder(
    params: dict,
    x: Float[np.ndarray, "T D"],
    mask: Mask | list[Mask],
    angles: Float[np.ndarray, "T half"] | None = None,
    gates: Float[np.ndarray, "L T"] | None = None,
) -> Float[np.ndarray, "T D"]:
    """All blocks in order, then the final norm.   [ViT, eq. 2-4]"""
    return norm(params["norm"], hidden_states(params, x, mask, angles, gates)[-1])


def hidden_states(
    params: dict,
    x: Float[np.ndarray, "T D"],
    mask: Mask | list[Mask],
    angles: Float[np.ndarray, "T half"] | None = None,
    gates: Float[np.ndarray, "L T"] | None = None,
) -> list[Float[np.ndarray, "T D"]]:
    """Tokens before the first block and after each of the L blocks."""
    found = [x]
    for layer in range(len(params["blocks"]["attention"]["q"])):
        gate = None if gates is None else gates[layer]
        found.append(block(take(params["blocks"], layer), found[-1], mask_of(mask, layer), angles, gate))
    return found


def take(params: dict, layer: int) -> dict:
    """Parameters of block `layer`, from the stacked parameters of all blocks."""
    return {name: take(v, layer) if isinstance(v, dict) else one(v, layer) for name, v in params.items()}


def one(leaf: object, layer: int) -> object:
    """Entry `layer` of a stacked array; a static (non-array) leaf is shared by all layers."""
    return leaf[layer] if isinstance(leaf, np.ndarray) else leaf


def skip_rates(rate: float, depth: int) -> Float[np.ndarray, " L"]:
    """Probability that an image skips block l: linear, from 0 at the first block to `rate` at the last.

    [Stochastic depth, arXiv:1603.09382]
    """
    return np.linspace(0.0, rate, depth)


def sample_gates(rng: np.random.Generator, rates: Float[np.ndarray, " L"], images: int) -> Float[np.ndarray, "L I"]:
    """Factors of residuals: 0 where an image skips a block, otherwise 1/(1 − rate), so that the mean is 1.

    Choice: one gate per image and block, shared by attention and MLP. It does not depend on the row or slot.
    """
    active = rng.random((images, len(rates))) >= rates
    return (active / (1 - rates)).T


def token_gates(gates: Float[np.ndarray, "L I"], segment_ids: Int[np.ndarray, " T"]) -> Float[np.ndarray, "L T"]:
    """Gates per image → gates per token."""
    return gates[:, np.maximum(segment_ids, 1) - 1]
