"""NaViT: first its meaning (one image), then its mechanism (a packed row)."""

import numpy as np
from jaxtyping import Float, Int, Num

from .encoder import encoder
from .layers import linear
from .masks import same_image, slot_tokens
from .patches import normalise
from .pooling import map_pool
from .posembed import factorised
from .types import Row, Tokens


def embed(
    params: dict,
    patches: Num[np.ndarray, "T P"],
    coords: Int[np.ndarray, "T A"],
    grids: Int[np.ndarray, "T A"],
) -> Float[np.ndarray, "T D"]:
    """Patches to tokens: a linear map plus the position.   [ViT, eq. 1; NaViT, §2.1]"""
    return linear(params["embed"], normalise(patches)) + factorised(params["posembed"], coords, grids)


def forward_image(params: dict, image: Tokens) -> Float[np.ndarray, " Y"]:
    """The meaning: a plain Vision Transformer on one image, no mask, no padding, no packing."""
    grids = np.broadcast_to(image.grid, image.coords.shape)
    x = embed(params, image.patches, image.coords, grids)
    x = encoder(params["encoder"], x, None)
    pooled = map_pool(params["pool"], x, np.ones((1, len(x)), bool))
    return linear(params["head"], pooled)[0]


def features(params: dict, row: Row) -> Float[np.ndarray, "I D"]:
    """The mechanism, up to the classifier: one vector for each image slot of a packed row.   [NaViT, §2.1]

    Padding is zeroed at the door, since 0 · NaN = NaN: masks alone do not stop rubbish.
    """
    real = (row.segment_ids > 0)[:, None]
    patches = np.where(real, row.patches, 0)
    coords = np.where(real, row.coords, 0)
    grids = np.where(real, row.grids[np.maximum(row.segment_ids, 1) - 1], 1)
    x = np.where(real, embed(params, patches, coords, grids), 0.0)
    x = encoder(params["encoder"], x, same_image(row.segment_ids))
    return map_pool(params["pool"], x, slot_tokens(row.segment_ids, len(row.grids)))


def forward(params: dict, row: Row) -> Float[np.ndarray, "I Y"]:
    """Class logits for each image slot of a packed row; those of an empty slot mean nothing."""
    return linear(params["head"], features(params, row))


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

    def attention(*stack: int) -> dict:
        size = width // heads
        return {
            **{name: normal(*stack, width, heads, size, fan_in=width) for name in "qkv"},
            "o": normal(*stack, heads, size, width, fan_in=width),
            "q_norm": {"scale": np.ones((*stack, size))},
            "k_norm": {"scale": np.ones((*stack, size))},
        }

    def mlp(*stack: int) -> dict:
        grow = {"w": normal(*stack, width, mlp_width, fan_in=width), "b": np.zeros((*stack, mlp_width))}
        shrink = {"w": normal(*stack, mlp_width, width, fan_in=mlp_width), "b": np.zeros((*stack, width))}
        return {"grow": grow, "shrink": shrink}

    blocks = {
        "attention_norm": {"scale": np.ones((depth, width))},
        "attention": attention(depth),
        "mlp_norm": {"scale": np.ones((depth, width))},
        "mlp": mlp(depth),
    }
    return {
        "embed": {"w": normal(patch_dim, width, fan_in=patch_dim), "b": np.zeros(width)},
        "posembed": {
            "tables": 0.02 * rng.normal(size=(2, positions, width)),
            "coordinate": "absolute",
            "feature": "learned",
            "combine": "sum",
        },
        "encoder": {"blocks": blocks, "norm": {"scale": np.ones(width)}},
        "pool": {
            "probe": normal(width, fan_in=width),
            "attention": attention(),
            "norm": {"scale": np.ones(width)},
            "mlp": mlp(),
        },
        "head": {"w": np.zeros((width, classes)), "b": np.zeros(classes)},
    }
