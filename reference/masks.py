"""Who may look at whom.   segment_ids: 1…I = image slot, 0 = padding; True = may look."""

import numpy as np
from jaxtyping import Bool, Int


def same_image(segment_ids: Int[np.ndarray, " T"]) -> Bool[np.ndarray, "T T"]:
    """Tokens of the same image. Padding sees nobody and is seen by nobody.   [NaViT, §2.1, fig. 2]"""
    real = segment_ids > 0
    return (segment_ids[:, None] == segment_ids[None, :]) & real[:, None] & real[None, :]


def slot_tokens(segment_ids: Int[np.ndarray, " T"], slots: int) -> Bool[np.ndarray, "I T"]:
    """The tokens that image slot i pools.   [NaViT, §2.1, "masked pooling"]"""
    return np.arange(1, slots + 1)[:, None] == segment_ids[None, :]


def register_ids(
    segment_ids: Int[np.ndarray, " T"], slots: int, registers: int
) -> Int[np.ndarray, " registers_of_all"]:
    """Segment ids of the registers of all slots, slot by slot; those of an empty slot are padding."""
    used = slot_tokens(segment_ids, slots).any(-1)
    return np.repeat(np.where(used, np.arange(1, slots + 1), 0), registers).astype(segment_ids.dtype)
