"""The gated MLP of imported towers, and the choice between it and the plain one."""

import numpy as np
from jaxtyping import Float

from .layers import ACTIVATIONS, linear, mlp, norm


def gated_mlp(params: dict, x: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T D"]:
    """norm(activation(x w₁ + b₁) ∘ (x w₃ + b₃)) w₂ + b₂, with the names grow, gate, shrink for 1, 3, 2.

    With SiLU it is SwiGLU.   [Shazeer, arXiv:2002.05202] Most have no norm; UniViTAR has.
    """
    gate = ACTIVATIONS[params["activation"]](linear(params["grow"], x))
    return linear(params["shrink"], norm(params["norm"], gate * linear(params["gate"], x)))


MLPS = {"Mlp": mlp, "GatedMlp": gated_mlp}


def feed_forward(params: dict, x: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T D"]:
    """The MLP named by `params["kind"]`."""
    return MLPS[params["kind"]](params, x)
