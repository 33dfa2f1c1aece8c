"""Learning rates by layer, for fine-tuning.   [BEiT, Bao et al., arXiv:2106.08254]"""

import numpy as np
from jaxtyping import Float


def layer_rates(depth: int, decay: float) -> Float[np.ndarray, " layers"]:
    """Factor of the learning rate of each of the layers 0 to L + 1: decay^(L + 1 − l).

    Layer 0 is all before the blocks, layers 1 to L are the blocks, layer L + 1 is all after them: norm, pool, head.
    """
    return decay ** np.arange(depth + 1.0, -1.0, -1.0)
