"""Which token attends to which.   segment_ids: 1…I = image slot, 0 = padding; True = may attend."""

import numpy as np
from jaxtyping import Bool, Int


def same_image(segment_ids: Int[np.ndarray, " T"]) -> Bool[np.ndarray, "T T"]:
    """Self-attention mask: pairs of tokens of the same image.   [NaViT, §2.1, fig. 2]

    Padding neither attends nor is attended to.
    """
    real = segment_ids > 0
    return (segment_ids[:, None] == segment_ids[None, :]) & real[:, None] & real[None, :]


def slot_tokens(segment_ids: Int[np.ndarray, " T"], slots: int) -> Bool[np.ndarray, "I T"]:
    """Pooling mask: the tokens of each image slot.   [NaViT, §2.1, "masked pooling"]"""
    return np.arange(1, slots + 1)[:, None] == segment_ids[None, :]


def used_slots(segment_ids: Int[np.ndarray, " T"], slots: int) -> Bool[np.ndarray, " I"]:
    """Which slots hold an image, i.e. at least one token."""
    return np.any(slot_tokens(segment_ids, slots), axis=1)


def register_ids(
    segment_ids: Int[np.ndarray, " T"], slots: int, registers: int
) -> Int[np.ndarray, " registers_of_all"]:
    """Segment ids of the registers of all slots, in slot order; registers of an empty slot are padding."""
    used = used_slots(segment_ids, slots)
    return np.repeat(np.where(used, np.arange(1, slots + 1), 0), registers).astype(segment_ids.dtype)
