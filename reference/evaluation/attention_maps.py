"""What a model looks at: attention weights of one image, layer by layer, and how far they reach.

Tokens of one image are S = T + R: its T patches, then R registers, which have no place.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num

from ..attention import attention_weights
from ..encoder import hidden_states, take
from ..layers import norm
from ..local import layer_masks, mask_of
from ..model import embed_patches, embedded, registers_of, rotary_angles
from ..rows import Tokens
from ..tubelets import capped, in_space


def image_attention(params: dict, image: Tokens) -> tuple[Float[np.ndarray, "L H S S"], Float[np.ndarray, " S"]]:
    """Attention weights of every layer and head, and the share of each token in the pooled vector."""
    registers, layers = registers_of(params), params["encoder"]
    grids = np.broadcast_to(image.grid, image.coords.shape)
    x = embedded(params, embed_patches(params, image.patches, image.coords, grids), registers)
    angles = rotary_angles(params, image.coords, grids, len(registers))
    mask = layer_masks(params["local"], image.coords, None)
    states = hidden_states(layers, x, mask, angles)
    found = []
    for layer, x in enumerate(states[:-1]):
        block = take(layers["blocks"], layer)
        y = norm(block["attention_norm"], x)
        found.append(attention_weights(block["attention"], y, y, mask_of(mask, layer), angles))
    return np.stack(found), pool_shares(params["pool"], norm(layers["norm"], states[-1]), len(image.coords))


def pool_shares(pool: dict, x: Float[np.ndarray, "S D"], patches: int) -> Float[np.ndarray, " S"]:
    """The share of each token in the pooled vector: weights of the probe, mean over heads; 1 for a class token; equal
    shares of the patches for means, and for a maximum, which has none."""
    shares = np.zeros(len(x))
    if pool["kind"] == "TokenPool":
        shares[patches] = 1
    elif "probe" in pool:
        shares[:patches] = attention_weights(pool["attention"], pool["probe"][None], x[:patches], None).mean((0, 1))
    else:
        shares[:patches] = 1 / patches
    return shares


def rollout(weights: Float[np.ndarray, "L H S S"]) -> Float[np.ndarray, "S S"]:
    """Π_l (A_l + 1) / 2, later layers to the left, A_l the mean over heads: how much of each token before the first
    layer is in each token after the last, if values were passed on unchanged.   [Abnar & Zuidema, arXiv:2005.00928]"""
    found = np.eye(weights.shape[-1])
    for layer in weights.mean(1):
        found = (layer + np.eye(len(layer))) / 2 @ found
    return found


def attention_map(
    weights: Float[np.ndarray, "L H S S"], shares: Float[np.ndarray, " S"], image: Tokens
) -> Float[np.ndarray, "y x"]:
    """The share of each patch in the pooled vector by rollout, on the grid of the image; 0 where a patch was dropped.

    The sum is 1 less what is read from registers.   [ViT, app. D.8]
    """
    found = np.zeros(tuple(image.grid))
    found[tuple(image.coords.T)] = (shares @ rollout(weights))[: len(image.coords)]
    return found


def clip_attention(params: dict, clip: Tokens) -> tuple[Float[np.ndarray, "L H S S"], Float[np.ndarray, " S"]]:
    """The same for the tubelets of a clip."""
    return image_attention(*in_space(params, clip, np.broadcast_to(clip.grid, clip.coords.shape)))


def clip_map(
    weights: Float[np.ndarray, "L H S S"],
    shares: Float[np.ndarray, " S"],
    clip: Tokens,
    base: tuple[int, ...],
    shapes: Sequence[tuple[int, ...]],
) -> Float[np.ndarray, "f h w"]:
    """The share of each pixel of each frame: that of a tubelet is spread evenly over its pixels, tubelets that overlap
    add up.

    The sum is 1 less what is read from registers and less what lies in dropped tubelets.   Choice.
    """
    space = np.rint(clip.grid[1:] * base).astype(int)
    found = np.zeros(space)
    for share, coords in zip(shares @ rollout(weights), clip.coords):
        size = np.array(capped(shapes[int(coords[0])], space.tolist()))
        f, y, x = np.rint((coords[1:] + 0.5) * base - size / 2).astype(int)
        found[f : f + size[0], y : y + size[1], x : x + size[2]] += share / size.prod()
    return found


def attention_distance(
    weights: Float[np.ndarray, "H S S"], coords: Num[np.ndarray, "T A"], patch: tuple[int, ...]
) -> Float[np.ndarray, " H"]:
    """Mean distance in pixels from a patch to the patches that it attends to, by head; in frames, of coords in time.
    [ViT, app. D.7]

    Choice: registers are left out on both sides, and the weights of each patch for patches are scaled to a sum of 1.
    """
    centers = coords * np.array(patch, float)
    between = np.sqrt(((centers[:, None] - centers[None]) ** 2).sum(-1))
    inside = weights[:, : len(coords), : len(coords)]
    return ((inside * between).sum(-1) / inside.sum(-1)).mean(-1)


def tokens_read(weights: Float[np.ndarray, "H T S"]) -> Float[np.ndarray, " H"]:
    """exp(entropy) of the weights, mean over queries: the number of tokens that equal weights would be shared by."""
    entropy = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(-1)
    return np.exp(entropy).mean(-1)
