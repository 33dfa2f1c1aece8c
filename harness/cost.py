"""The formulas of `reference/evaluation/cost.py` at the shape of a configured model: forward FLOPs."""

from navit_eqx.config import ModelConfig
from reference.evaluation.cost import image_flops, row_flops


def image_cost(shape: ModelConfig, classes: int, tokens: int) -> float:
    """Of an image by itself: no padding, no pairs of tokens of different images."""
    return image_flops(tokens, **shape.sizes, classes=classes)


def row_cost(shape: ModelConfig, classes: int, row_tokens: int, row_images: int) -> float:
    """Of one row, padding included."""
    return row_flops([], row_tokens, row_images, **shape.sizes, classes=classes)[1]
