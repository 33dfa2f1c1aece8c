"""Activations of imported towers, beside the two forms of GELU in `layers.py`."""

import numpy as np
from jaxtyping import Float


def quick_gelu(x: Float[np.ndarray, "*T D"]) -> Float[np.ndarray, "*T D"]:
    """x σ(1.702 x), an approximation of GELU.   [Hendrycks & Gimpel, arXiv:1606.08415, §2; CLIP]"""
    return x / (1.0 + np.exp(-1.702 * x))


def silu(x: Float[np.ndarray, "*T D"]) -> Float[np.ndarray, "*T D"]:
    """x σ(x)   [Elfwing et al., arXiv:1702.03118]"""
    return x / (1.0 + np.exp(-x))
