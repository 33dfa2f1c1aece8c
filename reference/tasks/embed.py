"""Features: the pooled vector of each image, or a projection of it. There is no loss."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..layers import linear


class Targets(NamedTuple):
    """Nothing is asked."""


def predict(params: dict, features: Float[np.ndarray, "I D"]) -> Float[np.ndarray, "I E"]:
    """features w + b, or the features themselves."""
    return features if params["head"] is None else linear(params["head"], features)
