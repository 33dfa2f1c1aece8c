"""NaViT: first its meaning (one image), then its mechanism (a packed row). Heads and losses: `tasks/`."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Num

from .encoder import encoder, hidden_states, token_gates
from .layers import linear, norm
from .local import layer_masks
from .masks import register_ids, same_image, slot_tokens
from .patches import normalize
from .pooling import pool
from .posembed import posembed
from .resize import FLEXIVIT, Interpolation, pi_resize
from .rope import rope
from .rows import Row, Tokens


def embed_patches(
    params: dict,
    patches: Num[np.ndarray, "T P"],
    coords: Num[np.ndarray, "T A"],
    grids: Num[np.ndarray, "T A"],
) -> Float[np.ndarray, "T D"]:
    """Patches → tokens: linear embedding plus position embedding, where there is one.   [ViT, eq. 1; NaViT, §2.1]"""
    x = linear(params["patch_embedding"], normalize(patches, params["mean"], params["std"]))
    return x if params["posembed"] is None else x + posembed(params["posembed"], coords, grids)


def at_patch_size(
    params: dict, base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> dict:
    """Parameters for patches of `size`, from stored parameters for patches of `base`.   [FlexiViT, PI-resize]

    PI-resizes do not compose: always start from the stored parameters.
    """
    embedding = params["patch_embedding"]
    w = pi_resize(embedding["w"], base, size, interpolation)
    return {**params, "patch_embedding": {**embedding, "w": w}}


def rotary_angles(
    params: dict, coords: Num[np.ndarray, "T A"], grids: Num[np.ndarray, "T A"], registers: int
) -> Float[np.ndarray, "S half"] | None:
    """Rotary angles of tokens and registers; None without rotary positions. Registers have no position: angle 0."""
    if params["rope"] is None:
        return None
    return np.pad(rope(params["rope"], coords, grids), ((0, registers), (0, 0)))


def registers_of(params: dict) -> Float[np.ndarray, "R D"]:
    """Registers: learned tokens appended to every image, which belong to no patch.   [arXiv:2309.16588]"""
    registers = params["registers"]
    return np.zeros((0, len(params["patch_embedding"]["b"]))) if registers is None else registers


def embedded(
    params: dict, x: Float[np.ndarray, "T D"], registers: Float[np.ndarray, "R D"]
) -> Float[np.ndarray, "S D"]:
    """Tokens and registers, normalized where the model has a norm before its first block (CLIP's)."""
    return norm(params["embedding_norm"], np.concatenate([x, registers]))


def forward_image(
    params: dict, image: Tokens, gates: Float[np.ndarray, "L 1"] | None = None
) -> Float[np.ndarray, " D"]:
    """The meaning: a plain Vision Transformer on one image, without mask, padding or packing.   [ViT, §3.1]"""
    registers = registers_of(params)
    grids = np.broadcast_to(image.grid, image.coords.shape)
    x = embedded(params, embed_patches(params, image.patches, image.coords, grids), registers)
    angles = rotary_angles(params, image.coords, grids, len(registers))
    gates = None if gates is None else np.broadcast_to(gates, (len(gates), len(x)))
    mask = layer_masks(params["local"], image.coords, None)
    x, after = np.split(encoder(params["encoder"], x, mask, angles, gates), [len(image.coords)])
    return pool(params["pool"], x, np.ones((1, len(x)), bool), after[None])[0]


def embed_row(
    params: dict, row: Row
) -> tuple[Float[np.ndarray, "S D"], Int[np.ndarray, " S"], Float[np.ndarray, "S half"] | None]:
    """Encoder input of a packed row: tokens and registers, their segment ids, their rotary angles.   [NaViT, §2.1]

    Padding is set to zero before the embedding: 0 · NaN = NaN, so a mask alone does not stop NaN.
    """
    real = (row.segment_ids > 0)[:, None]
    patches = np.where(real, row.patches, 0)
    coords = np.where(real, row.coords, 0)
    grids = np.where(real, row.grids[np.maximum(row.segment_ids, 1) - 1], 1)
    x = np.where(real, embed_patches(params, patches, coords, grids), 0.0)

    # The registers of all slots follow the row, in slot order.
    slots, registers = len(row.grids), registers_of(params)
    x = embedded(params, x, np.tile(registers, (slots, 1)))
    ids = np.concatenate([row.segment_ids, register_ids(row.segment_ids, slots, len(registers))])
    return x, ids, rotary_angles(params, coords, grids, slots * len(registers))


def encode(
    params: dict, row: Row, gates: Float[np.ndarray, "L I"] | None = None
) -> tuple[Float[np.ndarray, "T D"], Float[np.ndarray, "I R D"]]:
    """The encoded tokens of a packed row, and the encoded registers of each slot."""
    x, ids, angles = embed_row(params, row)
    gates = None if gates is None else token_gates(gates, ids)
    x = encoder(params["encoder"], x, layer_masks(params["local"], row.coords, same_image(ids)), angles, gates)
    x, after = np.split(x, [len(row.coords)])
    slots = len(row.grids)
    return x, after.reshape(slots, (len(ids) - len(row.coords)) // slots, x.shape[-1])


def forward(params: dict, row: Row, gates: Float[np.ndarray, "L I"] | None = None) -> Float[np.ndarray, "I D"]:
    """The mechanism: one vector per image slot of a packed row; zeros for an empty slot.   [NaViT, §2.1]"""
    x, registers = encode(params, row, gates)
    return pool(params["pool"], x, slot_tokens(row.segment_ids, len(row.grids)), registers)


def image_hidden_states(params: dict, image: Tokens) -> Float[np.ndarray, "states T D"]:
    """Tokens of one image before the first block and after each block, without registers.   [FlexiViT, fig. 6]"""
    registers = registers_of(params)
    grids = np.broadcast_to(image.grid, image.coords.shape)
    x = embedded(params, embed_patches(params, image.patches, image.coords, grids), registers)
    angles = rotary_angles(params, image.coords, grids, len(registers))
    found = hidden_states(params["encoder"], x, layer_masks(params["local"], image.coords, None), angles)
    return np.stack(found)[:, : len(image.coords)]
