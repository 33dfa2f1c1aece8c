"""Which token attends to which.   segment_ids: 1…I = image slot, 0 = padding; True = may attend."""

import numpy as np
from jaxtyping import Bool, Int


def same_image(segment_ids: Int[np.ndarray, " T"]) -> Bool[np.ndarray, "T T"]:
    """Tokens of the same image. Padding neither attends nor is attended to.   [NaViT, §2.1, fig. 2]"""
    real = segment_ids > 0
    return (segment_ids[:, None] == segment_ids[None, :]) & real[:, None] & real[None, :]


def slot_tokens(segment_ids: Int[np.ndarray, " T"], slots: int) -> Bool[np.ndarray, "I T"]:
    """The tokens that image slot i pools.   [NaViT, §2.1, "masked pooling"]"""
    return np.arange(1, slots + 1)[:, None] == segment_ids[None, :]


def used_slots(segment_ids: Int[np.ndarray, " T"], slots: int) -> Bool[np.ndarray, " I"]:
    """The slots that hold an image: those with at least one token."""
    return np.any(slot_tokens(segment_ids, slots), axis=1)


def register_ids(
    segment_ids: Int[np.ndarray, " T"], slots: int, registers: int
) -> Int[np.ndarray, " registers_of_all"]:
    """Segment ids of the registers of all slots, slot by slot; registers of an empty slot are padding."""
    used = used_slots(segment_ids, slots)
    return np.repeat(np.where(used, np.arange(1, slots + 1), 0), registers).astype(segment_ids.dtype)
