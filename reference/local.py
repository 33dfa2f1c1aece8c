"""Attention within windows of an image, in some of the blocks.   [Qwen2.5-VL, arXiv:2502.13923]"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Num

Mask = Bool[np.ndarray, "S S"] | None  # S = T where there are windows; registers, without places, may be among S


def same_window(coords: Num[np.ndarray, "T 2"], window: Sequence[int]) -> Bool[np.ndarray, "T T"]:
    """Pairs of places in the same window; windows begin at the top left, those at the other rims may be smaller.

    Of merged patches, the window of their center: that of all their cells where windows are multiples of blocks.
    """
    place = coords // np.array(window)
    return (place[:, None] == place[None, :]).all(-1)


def layer_masks(params: dict | None, coords: Num[np.ndarray, "T A"], mask: Mask) -> Mask | list[Mask]:
    """The mask of each block: pairs in the same window, but in blocks that attend to the whole image.

    Without `params` the mask that is given, for all blocks.
    """
    if params is None:
        return mask
    near = same_window(coords, params["window"])
    within = near if mask is None else near & mask
    return [mask if whole else within for whole in params["whole"]]


def mask_of(mask: Mask | list[Mask], layer: int) -> Mask:
    """The mask of one block, of one for all or one for each."""
    return mask[layer] if isinstance(mask, list) else mask
