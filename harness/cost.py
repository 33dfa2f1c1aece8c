"""FLOPs of a configured model, by the formulas of `reference/evaluation/cost.py`, and peaks of known devices."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Num

from navit_eqx.config import ModelConfig
from navit_eqx.layers import compute_dtype
from reference.evaluation.cost import image_flops, row_flops

from .config import Config


def image_cost(shape: ModelConfig, classes: int, tokens: int) -> float:
    """FLOPs of one image: no padding, no attention across images."""
    return image_flops(tokens, **shape.sizes, classes=classes)


def row_cost(shape: ModelConfig, classes: int, row_tokens: int, row_images: int) -> float:
    """FLOPs of one row, padding included."""
    return row_flops([], row_tokens, row_images, **shape.sizes, classes=classes)[1]


# Dense bfloat16 FLOP/s of one device, by the start of `device_kind`: from the makers' data sheets, without sparsity.
PEAKS = {
    "NVIDIA GB200": 2500e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L4": 121e12,
    "TPU v6 lite": 918e12,
    "TPU v5p": 459e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
}


def peak_flops(device_kind: str) -> float | None:
    """Dense bfloat16 FLOP/s of a device; None where it is unknown, as for every CPU."""
    return next((peak for name, peak in PEAKS.items() if device_kind.startswith(name)), None)


def batch_cost(shape: ModelConfig, classes: int, images: float, tokens: float, pairs: Any) -> Any:
    """Forward FLOPs of images with `tokens` tokens and `pairs` = Σ tokens² in all: no padding.

    The cost of an image is quadratic in its tokens, a + b n + c n², so that of all is a · images + b · tokens + c ·
    pairs.
    """
    one, two, three = (image_cost(shape, classes, n) for n in (1, 2, 3))
    c = (three - 2 * two + one) / 2
    b = two - one - 3 * c
    return (one - b - c) * images + b * tokens + c * pairs


def imbalance(shape: ModelConfig, classes: int, tokens: float, pairs: Num[np.ndarray, " D"]) -> float:
    """Largest over mean forward FLOPs of devices with `tokens` tokens each, padding included, and `pairs` = Σ tokens²
    of their images: 1 is balanced."""
    flops = batch_cost(shape, classes, 0, tokens, pairs)
    return float(np.max(flops) / np.mean(flops))


def rates(config: Config, images: float, tokens: float, pairs: float, seconds: float) -> dict[str, float]:
    """`flops_per_second` of training, three times the forward pass of the images, and `mfu`, its share of the peak of
    all devices in bfloat16.   [PaLM, arXiv:2204.02311]

    What is not known is left out: both where parameters are frozen, since less is computed; `mfu` on other devices and
    in other types. Recomputation (`model.remat`), a teacher and the optimizer are not counted.
    """
    if config.optim.frozen is not None:
        return {}
    flops = 3 * batch_cost(config.model, config.task.classes or 0, images, tokens, pairs) / seconds
    peak = peak_flops(jax.devices()[0].device_kind)
    if peak is None or compute_dtype(config.model.dtype) != "bfloat16":
        return {"flops_per_second": flops}
    return {"flops_per_second": flops, "mfu": flops / (peak * jax.device_count())}
