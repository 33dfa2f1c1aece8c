"""The formulas of `reference/cost.py` at the shape of a configured model: forward FLOPs."""

from navit_eqx.config import ModelConfig
from reference.cost import image_flops, row_flops


def sizes(shape: ModelConfig) -> dict[str, int]:
    """What the formulas read of it."""
    return {name: getattr(shape, name) for name in ("patch_dim", "width", "depth", "mlp_width", "classes")}


def image_cost(shape: ModelConfig, tokens: int) -> float:
    """Of an image by itself: no padding, no pairs of tokens that must not see each other."""
    return image_flops(tokens, **sizes(shape))


def row_cost(shape: ModelConfig, row_tokens: int, row_images: int) -> float:
    """Of one row, padding included."""
    return row_flops([], row_tokens, row_images, **sizes(shape))[1]
