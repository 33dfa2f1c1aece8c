"""Initial parameters, to run the reference without `navit_eqx`."""

import numpy as np
from jaxtyping import Float

from .layers import EPSILON


def init(
    rng: np.random.Generator,
    *,
    patch_dim: int,
    width: int,
    depth: int,
    heads: int,
    mlp_width: int,
    positions: int,
) -> dict:
    """Initial parameters of the default model: factorised positions of `positions` entries per axis, MAP.

    Weights are normal with variance 1/fan-in, biases 0, scales 1, position tables N(0, 0.02²).
    Choice: the paper gives no initialization.
    """

    def normal(*shape: int, fan_in: int) -> Float[np.ndarray, "..."]:
        return rng.normal(size=shape) / np.sqrt(fan_in)

    def norm(*shape: int) -> dict:
        return {"kind": "LayerNorm", "scale": np.ones(shape), "bias": None, "eps": EPSILON}

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
        return {"kind": "Mlp", "grow": grow, "shrink": shrink, "activation": "gelu_tanh"}

    blocks = {
        "attention_norm": norm(depth, width),
        "attention": attention(depth),
        "attention_scale": None,
        "mlp_norm": norm(depth, width),
        "mlp": mlp(depth),
        "mlp_scale": None,
    }
    return {
        "mean": (0.5,),
        "std": (0.5,),
        "patch_embedding": {"w": normal(patch_dim, width, fan_in=patch_dim), "b": np.zeros(width)},
        "posembed": {
            "kind": "Factorised",
            "tables": 0.02 * rng.normal(size=(2, positions, width)),
            "coordinate": "absolute",
            "feature": "learned",
            "combine": "sum",
        },
        "embedding_norm": None,
        "rope": None,
        "registers": None,
        "local": None,
        "encoder": {"blocks": blocks, "norm": norm(width)},
        "pool": {
            "kind": "MapPool",
            "probe": normal(width, fan_in=width),
            "attention": attention(),
            "norm": norm(width),
            "mlp": mlp(),
        },
    }


def init_head(width: int, classes: int) -> dict:
    """Zero-initialized linear head: training starts with equal logits for all classes."""
    return {"w": np.zeros((width, classes)), "b": np.zeros(classes)}
