"""NaViT: first its meaning (one image), then its mechanism (a packed row)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from .depth import token_gates
from .encoder import encoder, layers
from .layers import linear
from .masks import register_ids, same_image, slot_tokens
from .patches import normalise
from .pooling import POOLS
from .posembed import posembed
from .resize import FLEXIVIT, Interpolation, pi_resize
from .rope import rope
from .types import Row, Tokens


def embed(
    params: dict,
    patches: Num[np.ndarray, "T P"],
    coords: Int[np.ndarray, "T A"],
    grids: Int[np.ndarray, "T A"],
) -> Float[np.ndarray, "T D"]:
    """Patches to tokens: a linear map plus the position, if the model adds any.   [ViT, eq. 1; NaViT, §2.1]"""
    x = linear(params["embed"], normalise(patches))
    return x if params["posembed"] is None else x + posembed(params["posembed"], coords, grids)


def at_patch_size(
    params: dict, base: Sequence[int], size: Sequence[int], interpolation: Interpolation = FLEXIVIT
) -> dict:
    """The model that sees in patches of `size` what `params` see in theirs, of `base`.   [FlexiViT, PI-resize]

    Always from the stored parameters: PI-resizes do not compose.
    """
    embed = params["embed"]
    return {**params, "embed": {**embed, "w": pi_resize(embed["w"], base, size, interpolation)}}


def turns(params: dict, coords: Int[np.ndarray, "T A"], registers: int) -> Float[np.ndarray, "S half"] | None:
    """Angles of all tokens, if the model uses rotary positions; registers have no place and are not turned."""
    if params["rope"] is None:
        return None
    return np.pad(rope(params["rope"], coords), ((0, registers), (0, 0)))


def registers_of(params: dict) -> Float[np.ndarray, "R D"]:
    """Learned tokens that join every image: room for what belongs to no patch.   [arXiv:2309.16588]"""
    registers = params["registers"]
    return np.zeros((0, len(params["embed"]["b"]))) if registers is None else registers


def pool(
    params: dict, x: Float[np.ndarray, "T D"], mask: Bool[np.ndarray, "I T"], registers: Float[np.ndarray, "I R D"]
) -> Float[np.ndarray, "I D"]:
    """One vector per slot, by the pool that the model has."""
    return POOLS[params["kind"]](params, x, mask, registers)


def forward_image(
    params: dict, image: Tokens, gates: Float[np.ndarray, "L 1"] | None = None
) -> Float[np.ndarray, " Y"]:
    """The meaning: a plain Vision Transformer on one image, no mask, no padding, no packing."""
    registers = registers_of(params)
    grids = np.broadcast_to(image.grid, image.coords.shape)
    x = np.concatenate([embed(params, image.patches, image.coords, grids), registers])
    angles = turns(params, image.coords, len(registers))
    gates = None if gates is None else np.broadcast_to(gates, (len(gates), len(x)))
    x, after = np.split(encoder(params["encoder"], x, None, angles, gates), [len(image.coords)])
    pooled = pool(params["pool"], x, np.ones((1, len(x)), bool), after[None])
    return linear(params["head"], pooled)[0]


def entered(
    params: dict, row: Row
) -> tuple[Float[np.ndarray, "S D"], Int[np.ndarray, " S"], Float[np.ndarray, "S half"] | None]:
    """What the encoder reads of a packed row: tokens, whose they are, and angles.   [NaViT, §2.1]

    Padding is zeroed at the door, since 0 · NaN = NaN: masks alone do not stop rubbish.
    """
    real = (row.segment_ids > 0)[:, None]
    patches = np.where(real, row.patches, 0)
    coords = np.where(real, row.coords, 0)
    grids = np.where(real, row.grids[np.maximum(row.segment_ids, 1) - 1], 1)
    x = np.where(real, embed(params, patches, coords, grids), 0.0)

    # The registers of all slots follow the row, in the order of the slots.
    slots, registers = len(row.grids), registers_of(params)
    x = np.concatenate([x, np.tile(registers, (slots, 1))])
    ids = np.concatenate([row.segment_ids, register_ids(row.segment_ids, slots, len(registers))])
    return x, ids, turns(params, coords, slots * len(registers))


def features(params: dict, row: Row, gates: Float[np.ndarray, "L I"] | None = None) -> Float[np.ndarray, "I D"]:
    """The mechanism, up to the classifier: one vector for each image slot of a packed row.   [NaViT, §2.1]"""
    x, ids, angles = entered(params, row)
    gates = None if gates is None else token_gates(gates, ids)
    x = encoder(params["encoder"], x, same_image(ids), angles, gates)
    x, after = np.split(x, [len(row.coords)])
    slots = len(row.grids)
    after = after.reshape(slots, (len(ids) - len(row.coords)) // slots, x.shape[-1])
    return pool(params["pool"], x, slot_tokens(row.segment_ids, slots), after)


def image_layers(params: dict, image: Tokens) -> Float[np.ndarray, "layers T D"]:
    """Tokens of one image before the first block and after each, registers left out.   [FlexiViT, fig. 6]"""
    registers = registers_of(params)
    grids = np.broadcast_to(image.grid, image.coords.shape)
    x = np.concatenate([embed(params, image.patches, image.coords, grids), registers])
    found = layers(params["encoder"], x, None, turns(params, image.coords, len(registers)))
    return np.stack(found)[:, : len(image.coords)]


def forward(params: dict, row: Row, gates: Float[np.ndarray, "L I"] | None = None) -> Float[np.ndarray, "I Y"]:
    """Class logits for each image slot of a packed row; those of an empty slot mean nothing."""
    return linear(params["head"], features(params, row, gates))


def init(
    rng: np.random.Generator,
    *,
    patch_dim: int,
    width: int,
    depth: int,
    heads: int,
    mlp_width: int,
    classes: int,
    positions: int,
) -> dict:
    """Fresh parameters.

    Weights have variance 1/fan-in, biases are 0, scales 1, position tables N(0, 0.02²), the classifier 0.
    Choice: the paper gives no initialisation; a zero classifier starts every class at equal logits.
    """

    def normal(*shape: int, fan_in: int) -> Float[np.ndarray, "..."]:
        return rng.normal(size=shape) / np.sqrt(fan_in)

    def norm(*shape: int) -> dict:
        return {"kind": "LayerNorm", "scale": np.ones(shape), "bias": None}

    def attention(*stack: int) -> dict:
        size = width // heads
        return {
            **{name: normal(*stack, width, heads, size, fan_in=width) for name in "qkv"},
            "o": normal(*stack, heads, size, width, fan_in=width),
            **{f"{name}_bias": None for name in "qkvo"},
            "q_norm": norm(*stack, size),
            "k_norm": norm(*stack, size),
            "logit_scale": size**-0.5,
        }

    def mlp(*stack: int) -> dict:
        grow = {"w": normal(*stack, width, mlp_width, fan_in=width), "b": np.zeros((*stack, mlp_width))}
        shrink = {"w": normal(*stack, mlp_width, width, fan_in=mlp_width), "b": np.zeros((*stack, width))}
        return {"grow": grow, "shrink": shrink, "gelu": "tanh"}

    blocks = {
        "attention_norm": norm(depth, width),
        "attention": attention(depth),
        "attention_scale": None,
        "mlp_norm": norm(depth, width),
        "mlp": mlp(depth),
        "mlp_scale": None,
    }
    return {
        "embed": {"w": normal(patch_dim, width, fan_in=patch_dim), "b": np.zeros(width)},
        "posembed": {
            "kind": "Factorised",
            "tables": 0.02 * rng.normal(size=(2, positions, width)),
            "coordinate": "absolute",
            "feature": "learned",
            "combine": "sum",
        },
        "rope": None,
        "registers": None,
        "encoder": {"blocks": blocks, "norm": norm(width)},
        "pool": {
            "kind": "MapPool",
            "probe": normal(width, fan_in=width),
            "attention": attention(),
            "norm": norm(width),
            "mlp": mlp(),
        },
        "head": {"w": np.zeros((width, classes)), "b": np.zeros(classes)},
    }
