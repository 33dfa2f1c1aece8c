"""Groups of attention: windows or frames in some blocks, the whole image in others.

[Qwen2-VL, arXiv:2409.12191; Qwen2.5-VL, arXiv:2502.13923]
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Num

Mask = Bool[np.ndarray, "S S"] | None  # S = T where there are groups; registers, without places, may be among S


def same_window(coords: Num[np.ndarray, "T 2"], window: Sequence[int]) -> Bool[np.ndarray, "T T"]:
    """Pairs of places in the same window; windows begin at the top left, those at the other rims may be smaller.

    Of merged patches, the window of their center: that of all their cells where windows are multiples of blocks.
    """
    place = coords // np.array(window)
    return (place[:, None] == place[None, :]).all(-1)


def same_frame(times: Num[np.ndarray, " T"]) -> Bool[np.ndarray, "T T"]:
    """Pairs of tubelets of one time."""
    return times[:, None] == times[None, :]


def layer_masks(params: dict | None, coords: Num[np.ndarray, "T A"], mask: Mask) -> Mask | list[Mask]:
    """The mask of each block: pairs in the same window of a frame, in the same frame, or all of the image.

    `times` of `params` are those of the tubelets of clips (`tubelets.in_space`); an image is one frame. Without
    `params` the mask that is given, for all blocks.
    """
    if params is None:
        return mask
    near, times = same_window(coords, params["window"]), params.get("times")
    frame = mask if times is None else plus(same_frame(times), mask)
    groups = zip(params["whole"], params["frame"])
    return [mask if whole else frame if in_frame else plus(near, frame) for whole, in_frame in groups]


def plus(one: Bool[np.ndarray, "T T"], other: Mask) -> Mask:
    """Pairs of both masks; None has all pairs."""
    return one if other is None else one & other


def mask_of(mask: Mask | list[Mask], layer: int) -> Mask:
    """The mask of one block, of one for all or one for each."""
    return mask[layer] if isinstance(mask, list) else mask
