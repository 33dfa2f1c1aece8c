"""Forward FLOPs of a configured model, by the formulas of `reference/evaluation/cost.py`."""

from navit_eqx.config import ModelConfig
from reference.evaluation.cost import image_flops, row_flops


def image_cost(shape: ModelConfig, classes: int, tokens: int) -> float:
    """FLOPs of one image: no padding, no attention across images."""
    return image_flops(tokens, **shape.sizes, classes=classes)


def row_cost(shape: ModelConfig, classes: int, row_tokens: int, row_images: int) -> float:
    """FLOPs of one row, padding included."""
    return row_flops([], row_tokens, row_images, **shape.sizes, classes=classes)[1]
