"""Pre-norm transformer blocks. Their parameters are stacked: every leaf of `blocks` has a leading axis L."""

import numpy as np
from jaxtyping import Bool, Float

from .attention import attention
from .layers import mlp, norm


def block(
    params: dict,
    x: Float[np.ndarray, "T D"],
    mask: Bool[np.ndarray, "T T"] | None,
    angles: Float[np.ndarray, "T half"] | None = None,
    gate: Float[np.ndarray, " T"] | None = None,
) -> Float[np.ndarray, "T D"]:
    """x + attention(norm x), then x + mlp(norm x).   [ViT, eq. 2-3]

    What is added is first multiplied by LayerScale (a gain per channel; arXiv:2103.17239) and by `gate`
    (stochastic depth, see depth.py), where they are used.
    """
    y = norm(params["attention_norm"], x)
    x = add(x, attention(params["attention"], y, y, mask, angles), params["attention_scale"], gate)
    return add(x, mlp(params["mlp"], norm(params["mlp_norm"], x)), params["mlp_scale"], gate)


def add(
    x: Float[np.ndarray, "T D"],
    branch: Float[np.ndarray, "T D"],
    scale: Float[np.ndarray, " D"] | None,
    gate: Float[np.ndarray, " T"] | None,
) -> Float[np.ndarray, "T D"]:
    """x + gate · scale · branch; None is 1."""
    branch = branch if scale is None else scale * branch
    return x + (branch if gate is None else gate[:, None] * branch)


def encoder(
    params: dict,
    x: Float[np.ndarray, "T D"],
    mask: Bool[np.ndarray, "T T"] | None,
    angles: Float[np.ndarray, "T half"] | None = None,
    gates: Float[np.ndarray, "L T"] | None = None,
) -> Float[np.ndarray, "T D"]:
    """All blocks in turn and a last norm.   [ViT, eq. 2-4]"""
    return norm(params["norm"], layers(params, x, mask, angles, gates)[-1])


def layers(
    params: dict,
    x: Float[np.ndarray, "T D"],
    mask: Bool[np.ndarray, "T T"] | None,
    angles: Float[np.ndarray, "T half"] | None = None,
    gates: Float[np.ndarray, "L T"] | None = None,
) -> list[Float[np.ndarray, "T D"]]:
    """Tokens before the first block and after each of the L blocks."""
    found = [x]
    for layer in range(len(params["blocks"]["attention"]["q"])):
        gate = None if gates is None else gates[layer]
        found.append(block(take(params["blocks"], layer), found[-1], mask, angles, gate))
    return found


def take(params: dict, layer: int) -> dict:
    """The parameters of one block out of the stack."""
    return {name: take(v, layer) if isinstance(v, dict) else one(v, layer) for name, v in params.items()}


def one(leaf: object, layer: int) -> object:
    """An array's part of a layer; what is no array belongs to all layers."""
    return leaf[layer] if isinstance(leaf, np.ndarray) else leaf
