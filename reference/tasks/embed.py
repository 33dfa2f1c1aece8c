"""Features: the pooled vector of each image, or a projection of it; or blocks of tokens, merged. There is no loss."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ..encoder import take
from ..layers import linear
from ..merging import merger


class Targets(NamedTuple):
    """Nothing is asked."""


def predict(params: dict, features: Float[np.ndarray, "I D"]) -> Float[np.ndarray, "I E"]:
    """features w + b, or the features themselves."""
    return features if params["head"] is None else linear(params["head"], features)


def merged(
    params: dict,
    x: Float[np.ndarray, "T D"],
    taps: Sequence[Float[np.ndarray, "T D"]],
    coords: Int[np.ndarray, "T 2"],
    segment_ids: Int[np.ndarray, " T"],
) -> Float[np.ndarray, "kinds T E"]:
    """Merged tokens, each at the first token of its block; then those of each tap, the tokens after a block inside."""
    inner = [merger(take(params["taps"], n), tap, coords, segment_ids) for n, tap in enumerate(taps)]
    return np.stack([merger(params["merger"], x, coords, segment_ids), *inner])
